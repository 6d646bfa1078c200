//! Opens what the settings name, and makes a tracker of it.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use auth_tracker::{
    clock::Clock,
    tracker::{Parts, Tracker},
};
use dispatcher_api::{
    auth::sources::{self, Sources},
    instances::model::Instance,
    keyring::Keyring,
    keys::source::DatabaseKeys,
    store::{Stores, postgres::PostgresStore},
};
use secrecy::ExposeSecret as _;
use tokio_util::sync::CancellationToken;

use crate::{settings::TrackerSettings, supervisor::Supervisor};

/// Between two tries to open the database.
const RETRY: Duration = Duration::from_secs(1);

/// The database, once it is there and has this version's shape; the service brings it to that.
/// `None`: the process was asked to end before.
pub(crate) async fn stores(
    settings: &TrackerSettings,
    supervisor: &Supervisor,
    shutdown: &CancellationToken,
) -> Option<Stores> {
    let mut said = None;
    while !shutdown.is_cancelled() {
        match PostgresStore::connect(&settings.database).await {
            Ok(stores) => return Some(stores),
            Err(error) => {
                let why = error.to_string();
                supervisor.waits_for(&format!("the database: {why}"));
                if said.as_ref() != Some(&why) {
                    tracing::warn!(error = why, "the database is not there yet; trying on");
                    said = Some(why);
                }
                shutdown.run_until_cancelled(tokio::time::sleep(RETRY)).await;
            }
        }
    }
    None
}

/// The tracker of these settings over this database.
///
/// # Errors
/// When a key, a certificate or the address of Redis cannot be used.
pub(crate) fn tracker(
    settings: &TrackerSettings,
    stores: &Stores,
    own: &Instance,
) -> anyhow::Result<Tracker> {
    let clock = Clock::system();
    let sso = Sources::of(settings.auth.sso.as_ref(), &settings.tls, &clock)?;
    let keyring = Keyring::parse(settings.secret_keys.expose_secret())?;
    let redis = sources::redis(&settings.auth, &settings.tls)?.context("no Redis is named")?;
    Ok(Tracker::new(Parts {
        redis,
        database: Arc::new(DatabaseKeys(Arc::clone(&stores.keys))),
        times: stores.last_auth.clone(),
        leases: Arc::clone(&stores.leases),
        sso: sso.fetcher,
        configured: sso.configured,
        issuers: sso.issuers,
        seal: Arc::new(keyring),
        rule: settings.rule,
        max_staleness: settings.auth.max_staleness,
        name: own.name.clone(),
        clock,
    }))
}
