//! One round of the active tracker: what is asked for, what the sources say, what has to be
//! published.

use std::sync::{Arc, atomic::Ordering};

use tokio::time::Instant;

use super::{Tracker, desk::Desk, term::Term};
use crate::{
    feed::Board as _,
    reconcile::{Fetched, Said, reconcile},
    redis::{Published, Wants},
    snapshot::{Snapshot, SnapshotError},
    state::AuthState,
};

/// The lease is somebody else's.
#[derive(Debug)]
pub(super) struct Lost;

impl Tracker {
    /// One round. What does not work is noted, and tried again in the next.
    pub(super) async fn round(&self, term: &Term, desk: &mut Desk) -> Result<(), Lost> {
        let wants = self.redis.wants().await;
        self.problem("redis", wants.as_ref().err().map(ToString::to_string));
        if let Ok(wants) = &wants {
            self.heed(wants, desk);
            self.continue_once(desk).await;
        }
        self.gather(desk).await;
        let in_redis = wants.as_ref().ok().map(|wants| wants.version.as_deref());
        if desk.heard_database && desk.continued && desk.is_due(in_redis) {
            self.publish(term, desk).await?;
        }
        Ok(())
    }

    /// Does what instances ask for.
    fn heed(&self, wants: &Wants, desk: &mut Desk) {
        self.dirty.store(wants.dirty, Ordering::Relaxed);
        if wants.refetch.is_some() && wants.refetch != desk.refetch {
            desk.refetch.clone_from(&wants.refetch);
            if let Some(fetcher) = self.sso.clone() {
                // The result comes by the loop; nobody waits for it here.
                drop(tokio::spawn(async move { fetcher.ask().await }));
            }
        }
    }

    /// Looks once at what is in Redis already.
    async fn continue_once(&self, desk: &mut Desk) {
        if desk.continued {
            return;
        }
        let Ok(text) = self.redis.snapshot().await else { return };
        desk.continued = true;
        let Some(text) = text else { return };
        match self.opened(&text) {
            Ok((snapshot, state)) => {
                let age = state.sso_fetched_at.map(|at| self.clock.now() - at);
                let known = age.is_some_and(|age| age <= self.max_staleness);
                let issuers = if known { self.issuers.as_slice() } else { &[] };
                desk.continue_from(&snapshot, state, issuers);
            }
            Err(error) => tracing::error!(%error, "the snapshot in Redis does not count"),
        }
    }

    fn opened(&self, text: &[u8]) -> Result<(Snapshot, AuthState), SnapshotError> {
        let snapshot = Snapshot::parse(text)?;
        let state = snapshot.open(self.seal.as_ref())?;
        Ok((snapshot, state))
    }

    /// Asks the sources and reconciles what they say.
    async fn gather(&self, desk: &mut Desk) {
        let known = desk.heard_database.then_some(desk.base.auth_version);
        let keys = self.psk.look(known).await;
        self.problem("database", keys.as_ref().err().map(ToString::to_string));
        let keys = keys.ok();
        desk.heard_database |= keys.is_some();
        let mut sso = None;
        if let Some(fetcher) = &self.sso {
            let outcome = fetcher.outcome();
            if outcome.count != desk.fetches {
                desk.fetches = outcome.count;
                self.problem("sso", outcome.failed);
                let news = |latest: &Arc<Fetched>| latest.at > desk.base.sso_fetched_at;
                sso = outcome.latest.filter(news).map(|latest| Fetched::clone(&latest));
            }
        }
        // Instances may be waiting for the fetch, whether it brought new keys or not.
        desk.changed |= sso.is_some();
        let reconciled = reconcile(&desk.base, Said { keys, sso }, self.clock.now());
        desk.changed |= reconciled.changed;
        desk.base = reconciled.state;
    }

    /// Publishes the state, if the lease is certainly held.
    async fn publish(&self, term: &Term, desk: &mut Desk) -> Result<(), Lost> {
        let mut overruled = None;
        loop {
            if !term.is_valid() {
                return Err(Lost);
            }
            let (version, now) = (desk.take_version(self), self.clock.now());
            let sealed = Snapshot::seal(&desk.base, version, now, self.seal.as_ref());
            let snapshot = match sealed {
                Ok(snapshot) => snapshot,
                Err(error) => {
                    self.problem("snapshot", Some(error.to_string()));
                    return Ok(());
                }
            };
            match self.redis.publish(&snapshot, overruled.as_deref()).await {
                Ok(Published::Done) => {
                    desk.published = Some((version, Instant::now()));
                    desk.changed = false;
                    self.published(desk.base.auth_version);
                    self.problem("redis", None);
                    metrics::counter!("dispatcher_tracker_snapshots_total").increment(1);
                    return Ok(());
                }
                Ok(Published::Newer(held)) if overruled.is_none() => {
                    if self.is_genuine(&held).await {
                        return Err(Lost);
                    }
                    tracing::error!("the version in Redis was not ours; it is overwritten");
                    overruled = Some(held);
                }
                // Somebody is faster; the next round looks again.
                Ok(Published::Newer(_)) => return Ok(()),
                Err(error) => {
                    self.problem("redis", Some(error.to_string()));
                    return Ok(());
                }
            }
        }
    }

    /// Whether a version in Redis belongs to a snapshot that a tracker made.
    async fn is_genuine(&self, version: &str) -> bool {
        let Ok(text) = self.redis.snapshot().await else { return true };
        text.is_some_and(|text| {
            self.opened(&text).is_ok_and(|(snapshot, _)| snapshot.version.to_string() == version)
        })
    }
}
