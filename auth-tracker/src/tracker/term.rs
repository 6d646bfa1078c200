//! The lease of the active tracker: taken, renewed, lost, given back.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{LEASE, LEASE_TTL, Tracker};
use crate::ports::{Lease, PortError};

/// Between two renewals of the lease.
const RENEW_EVERY: Duration = Duration::from_secs(2);
/// The most that a renewal may take.
const RENEW_TIMEOUT: Duration = Duration::from_secs(2);

/// A lease, and how long it is certainly held.
#[derive(Debug)]
pub(super) struct Term {
    /// Tells it from the terms of others.
    pub(super) epoch: i64,
    until: Mutex<Instant>,
}

impl Term {
    /// Whether it is certainly held now.
    pub(super) fn is_valid(&self) -> bool {
        Instant::now() < *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn renewed(&self, until: Instant) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }
}

impl Tracker {
    /// Renews the lease; returns when it is lost.
    pub(super) async fn keep_lease(&self, term: &Term) {
        loop {
            tokio::time::sleep(RENEW_EVERY).await;
            if !self.renew(term).await {
                return;
            }
        }
    }

    /// `false`: it is lost for certain, or has run out.
    pub(super) async fn renew(&self, term: &Term) -> bool {
        let (until, held) = self.hold().await;
        match held {
            Ok(Some(lease)) if lease.epoch == term.epoch => term.renewed(until),
            Ok(other) => {
                tracing::warn!(epoch = term.epoch, ?other, "the lease was lost");
                return false;
            }
            Err(_) if term.is_valid() => {}
            Err(_) => {
                tracing::warn!(epoch = term.epoch, "the lease ran out before it could be renewed");
                return false;
            }
        }
        true
    }

    /// Takes the lease, if it is free.
    pub(super) async fn take_lease(&self) -> Option<Term> {
        let (until, held) = self.hold().await;
        let lease = held.ok().flatten()?;
        Some(Term { epoch: lease.epoch, until: Mutex::new(until) })
    }

    /// Takes or renews the lease; until when it is certainly held then.
    async fn hold(&self) -> (Instant, Result<Option<Lease>, PortError>) {
        let until = Instant::now() + LEASE_TTL;
        let holding = self.leases.hold(LEASE, self.holder, &self.name, LEASE_TTL);
        let late = |_| Err(PortError("the database did not answer in time".to_owned()));
        let held = tokio::time::timeout(RENEW_TIMEOUT, holding).await.unwrap_or_else(late);
        self.problem("lease", held.as_ref().err().map(ToString::to_string));
        (until, held)
    }

    /// Gives the lease back, so that another tracker has it at once.
    pub(super) async fn release(&self) {
        let releasing = self.leases.release(LEASE, self.holder);
        match tokio::time::timeout(RENEW_TIMEOUT, releasing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the lease was not given back; it runs out"),
            Err(_) => tracing::debug!("the lease was not given back in time; it runs out"),
        }
    }
}
