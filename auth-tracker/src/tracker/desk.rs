//! What the active tracker has in front of it: the state as it gathered it, and what it published.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::time::Instant;

use super::Tracker;
use crate::{snapshot::Snapshot, state::AuthState};

/// After so long, a snapshot is issued anew though nothing has changed.
const REISSUE: Duration = Duration::from_secs(10);

/// The work of one term.
#[derive(Debug)]
pub(super) struct Desk {
    /// The state as it is.
    pub(super) base: AuthState,
    /// Whether the database has said anything in this term. Before, nothing is published.
    pub(super) heard_database: bool,
    /// Whether it is known what is in Redis, so that versions go on from there.
    pub(super) continued: bool,
    /// The version of the next snapshot.
    pub(super) next: u64,
    /// The version that was published last, and when.
    pub(super) published: Option<(u64, Instant)>,
    /// Whether the state has changed since.
    pub(super) changed: bool,
    /// The last request for keys that was heard.
    pub(super) refetch: Option<String>,
    /// How many fetches had ended when they were last looked at.
    pub(super) fetches: u64,
}

impl Desk {
    /// An empty desk.
    pub(super) fn new(tracker: &Tracker, epoch: i64) -> Self {
        // In the same epoch, versions go on where the last term ended.
        let last = tracker.last_version.load(Ordering::Relaxed);
        Self {
            base: tracker.first.clone(),
            heard_database: false,
            continued: false,
            next: Snapshot::version_of(epoch, 1).max(last.saturating_add(1)),
            published: None,
            changed: false,
            refetch: None,
            fetches: 0,
        }
    }

    /// Whether a snapshot is to be published, when this is what stands in Redis for its version
    /// (`None`: that is not known).
    pub(super) fn is_due(&self, in_redis: Option<Option<&str>>) -> bool {
        let Some((version, at)) = self.published else { return true };
        let lost = in_redis.is_some_and(|text| text != Some(version.to_string().as_str()));
        self.changed || lost || at.elapsed() >= REISSUE
    }

    /// Goes on from the snapshot in Redis: with a higher version, and with the SSO server's keys,
    /// which that server may not be there to tell again. `issuers`: those it may have.
    pub(super) fn continue_from(
        &mut self,
        snapshot: &Snapshot,
        state: AuthState,
        issuers: &[String],
    ) {
        self.next = self.next.max(snapshot.version.saturating_add(1));
        let own = state.sso_issuers.iter().all(|issuer| issuers.contains(issuer));
        if own && state.sso_fetched_at > self.base.sso_fetched_at {
            self.base.sso_keys = state.sso_keys;
            self.base.sso_issuers = state.sso_issuers;
            self.base.sso_fetched_at = state.sso_fetched_at;
        }
    }

    /// The number of the snapshot that is about to be published. Never given out twice.
    pub(super) fn take_version(&mut self, tracker: &Tracker) -> u64 {
        let version = self.next;
        self.next = self.next.saturating_add(1);
        tracker.last_version.store(version, Ordering::Relaxed);
        version
    }
}
