//! An instance that has served as many requests as it may waits for its turn to begin anew.
//!
//! Instances behind one balancer get equally many requests, and would otherwise go at the same
//! moment, whatever the jitter. The turn is a lease, kept until the end of the process, and some
//! time longer, in which its successor gets ready.

use std::{sync::Arc, time::Duration};

use auth_tracker::ports::Leases;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::publishing;
use crate::app::App;

/// The name of the lease.
const LEASE: &str = "recycling";
/// How long the successor of an instance has, after that has ended.
const SUCCESSION: Duration = Duration::from_secs(10);
/// Between two attempts to have the turn, and two renewals.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Returns when this instance has served enough and is the one to go; from then on until `ended`
/// no other is.
pub(super) async fn turn(app: &App, ended: &CancellationToken) {
    app.lifecycle.served_enough().await;
    let (leases, name) = (Arc::clone(&app.stores.leases), publishing::process_name());
    let holder = Uuid::new_v4();
    let mut waits = false;
    while !has_turn(leases.as_ref(), holder, &name).await {
        if !std::mem::replace(&mut waits, true) {
            tracing::info!("served enough; another instance begins anew, and this one goes on");
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let keeping = async move {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            has_turn(leases.as_ref(), holder, &name).await;
        }
    };
    tokio::spawn(ended.clone().run_until_cancelled_owned(keeping));
}

async fn has_turn(leases: &dyn Leases, holder: Uuid, name: &str) -> bool {
    let held = leases.hold(LEASE, holder, name, SUCCESSION).await;
    if let Err(error) = &held {
        tracing::debug!(%error, "the database does not say whose turn it is");
    }
    held.is_ok_and(|lease| lease.is_some())
}
