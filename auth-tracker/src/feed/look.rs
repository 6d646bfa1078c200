//! How a feed keeps current: a look at the shared snapshot, and at the sources where that is not
//! fresh.

use std::{collections::BTreeSet, sync::Arc};

use time::OffsetDateTime;

use super::{Board, Feed, Heard, Held, LOOK_EVERY, MOST_AGE, Way};
use crate::{
    measures,
    ports::PortError,
    reconcile::{Duplicate, Fetched, Said, reconcile, with_settings},
    snapshot::{Snapshot, SnapshotError},
    state::AuthState,
};

/// Between two looks, however many hints there are.
const LEAST_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

/// Why the shared snapshot is not what this instance goes by.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("Redis cannot be asked: {0}")]
    Unreachable(String),
    #[error("there is none")]
    Absent,
    #[error(transparent)]
    Unsound(#[from] SnapshotError),
    #[error("it is older than the one before: something old was put back")]
    Replayed,
    #[error("the tracker has not renewed it")]
    Late,
    #[error("it does not know the last change of a key yet")]
    Behind,
    #[error("the database cannot be asked whether it knows the last change of a key")]
    Unproven,
}

impl Refusal {
    /// A word for metrics.
    const fn label(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Absent => "absent",
            Self::Unsound(_) => "forged",
            Self::Replayed => "replayed",
            Self::Late => "late",
            Self::Behind => "behind",
            Self::Unproven => "unproven",
        }
    }
}

impl From<PortError> for Refusal {
    fn from(error: PortError) -> Self {
        Self::Unreachable(error.0)
    }
}

/// What the loop remembers from look to look.
pub(super) struct Memory {
    /// The state without the keys of the settings.
    base: AuthState,
    /// Whether the database has said anything since the start, so that no older state is believed.
    proven: bool,
    /// The version of the last accepted snapshot, and when it was issued.
    snapshot: Option<(u64, OffsetDateTime)>,
    way: Way,
    /// What was complained about and has not gone away.
    complaints: BTreeSet<&'static str>,
    duplicates: Vec<Duplicate>,
}

impl Memory {
    /// Says something once, until it is over.
    fn complains(&mut self, about: &'static str, wrong: bool) -> bool {
        if wrong {
            self.complaints.insert(about)
        } else {
            self.complaints.remove(about);
            false
        }
    }

    fn is_fresh(&self, now: OffsetDateTime) -> bool {
        self.snapshot.is_some_and(|(_, issued_at)| is_recent(issued_at, now))
    }
}

/// Neither older than a snapshot may be, nor from a clock that is that much ahead.
fn is_recent(issued_at: OffsetDateTime, now: OffsetDateTime) -> bool {
    (now - issued_at).abs() <= MOST_AGE
}

/// What was shared, but with the keys of the SSO server that were fetched here where those are
/// newer: a tracker that started while that server is down knows none.
fn with_newer_sso(shared: AuthState, own: &AuthState) -> AuthState {
    if own.sso_fetched_at <= shared.sso_fetched_at {
        return shared;
    }
    AuthState {
        sso_keys: own.sso_keys.clone(),
        sso_issuers: own.sso_issuers.clone(),
        sso_fetched_at: own.sso_fetched_at,
        ..shared
    }
}

impl Feed {
    /// Keeps the state current until it is dropped.
    pub async fn run(&self) {
        measures::describe_feed();
        let fetching = async {
            match &self.sso {
                Some(fetcher) => fetcher.run().await,
                None => std::future::pending().await,
            }
        };
        let looking = async {
            let mut memory = self.memory();
            let mut outcomes = self.sso.as_ref().map(|fetcher| fetcher.outcomes());
            loop {
                self.look(&mut memory).await;
                tokio::time::sleep(LEAST_PAUSE).await;
                let fetched = async {
                    match &mut outcomes {
                        Some(outcomes) => drop(outcomes.changed().await),
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = tokio::time::sleep(LOOK_EVERY - LEAST_PAUSE) => {}
                    () = self.nudge.notified() => {}
                    () = fetched => {}
                }
            }
        };
        let hearing = async {
            if let Some(board) = self.board.as_deref() {
                let (asking, telling) = (self.keep_asking(board), self.keep_telling(board));
                tokio::join!(board.hear(&self.nudge), asking, telling);
            }
        };
        tokio::join!(fetching, looking, hearing);
    }

    pub(super) fn memory(&self) -> Memory {
        Memory {
            base: self.first.clone(),
            proven: false,
            snapshot: None,
            way: Way::Nowhere,
            complaints: BTreeSet::new(),
            duplicates: Vec::new(),
        }
    }

    /// One look.
    pub(super) async fn look(&self, memory: &mut Memory) {
        let shared = match &self.board {
            Some(board) => self.look_at_board(board.as_ref(), memory).await,
            None => Err(Refusal::Absent),
        };
        match shared {
            Ok(()) => self.go(memory, Way::Shared, None),
            Err(refusal) => {
                let had = self.board.is_some();
                self.go(memory, Way::Direct, had.then_some(&refusal));
                self.look_directly(memory).await;
            }
        }
        self.publish(memory);
    }

    /// Says when the way changes, and lets the SSO server be asked only on the direct one.
    fn go(&self, memory: &mut Memory, way: Way, refusal: Option<&Refusal>) {
        if memory.way != way {
            match refusal {
                Some(refusal) => tracing::warn!(
                    reason = %refusal,
                    "the shared authentication state is not usable; asking its sources directly"
                ),
                None if way == Way::Shared => {
                    tracing::info!("the authentication state comes from the tracker");
                }
                None => {}
            }
            memory.way = way;
        }
        metrics::gauge!("dispatcher_auth_direct").set(if way == Way::Direct { 1.0 } else { 0.0 });
        if let Some(fetcher) = &self.sso {
            fetcher.set_active(way == Way::Direct);
        }
    }

    /// Takes the shared snapshot where it is new. An error: the one held is not fresh any more.
    async fn look_at_board(&self, board: &dyn Board, memory: &mut Memory) -> Result<(), Refusal> {
        let looked = async {
            let version = board.version().await?.ok_or(Refusal::Absent)?;
            if memory.snapshot.is_some_and(|(held, _)| held.to_string() == version) {
                return Ok(None);
            }
            let text = board.snapshot().await?.ok_or(Refusal::Absent)?;
            self.examine(Snapshot::parse(&text)?, memory).await
        };
        let looked = looked.await;
        let now = self.clock.now();
        match looked {
            Ok(Some((version, issued_at, state))) => {
                memory.snapshot = Some((version, issued_at));
                memory.base = with_newer_sso(state, &memory.base);
                memory.complaints.clear();
            }
            Ok(None) => {}
            Err(refusal) => {
                self.refused(&refusal, memory);
                return if memory.is_fresh(now) { Ok(()) } else { Err(refusal) };
            }
        }
        if memory.is_fresh(now) { Ok(()) } else { Err(Refusal::Late) }
    }

    /// What a snapshot says, where it is to be believed. `None`: it is the one that is held.
    async fn examine(
        &self,
        snapshot: Snapshot,
        memory: &mut Memory,
    ) -> Result<Option<(u64, OffsetDateTime, AuthState)>, Refusal> {
        let state = snapshot.open(self.seal.as_ref())?;
        let held = memory.snapshot.map(|(version, _)| version);
        if held == Some(snapshot.version) {
            return Ok(None);
        }
        if held.is_some_and(|held| snapshot.version < held) {
            return Err(Refusal::Replayed);
        }
        if !is_recent(snapshot.issued_at, self.clock.now()) {
            return Err(Refusal::Late);
        }
        if !memory.proven {
            // An old snapshot may have been put back before this process was there to notice.
            let least = self.psk.version().await.map_err(|_| Refusal::Unproven)?;
            if state.auth_version < least {
                return Err(Refusal::Behind);
            }
            memory.proven = true;
        }
        if state.auth_version < memory.base.auth_version {
            return Err(Refusal::Behind);
        }
        Ok(Some((snapshot.version, snapshot.issued_at, state)))
    }

    fn refused(&self, refusal: &Refusal, memory: &mut Memory) {
        let label = refusal.label();
        metrics::counter!("dispatcher_auth_snapshots_refused_total", "reason" => label)
            .increment(1);
        if matches!(refusal, Refusal::Unsound(_) | Refusal::Replayed)
            && memory.complains(label, true)
        {
            tracing::error!(reason = %refusal, "the snapshot in Redis was refused");
        }
    }

    async fn look_directly(&self, memory: &mut Memory) {
        let known = memory.proven.then_some(memory.base.auth_version);
        let keys = self.psk.look(known).await;
        let failed = keys.as_ref().err();
        if memory.complains("database", failed.is_some())
            && let Some(error) = failed
        {
            tracing::warn!(%error, "the database cannot be asked for keys; those known stay");
        }
        let news = |latest: &Arc<Fetched>| latest.at > memory.base.sso_fetched_at;
        let latest = self.sso.as_ref().and_then(|fetcher| fetcher.outcome().latest);
        let sso = latest.filter(news).map(|latest| Fetched::clone(&latest));
        let said = Said { keys: keys.ok(), sso };
        memory.proven |= said.keys.is_some();
        memory.base = reconcile(&memory.base, said, self.clock.now()).state;
    }

    /// Puts the state into force.
    fn publish(&self, memory: &mut Memory) {
        let now = self.clock.now();
        let (state, duplicates) = with_settings(memory.base.clone(), &self.settings, now);
        if duplicates != memory.duplicates {
            for Duplicate { kept, dropped } in &duplicates {
                tracing::warn!(
                    key = kept,
                    setting = dropped,
                    "a key of the settings is in the database too, which counts; remove it from \
                     the settings, or it comes back when it is revoked there"
                );
            }
            memory.duplicates = duplicates;
        }
        self.held.send_if_modified(|held| {
            let changed = !state.same_keys(&held.state);
            if changed {
                self.remember_gone(&held.state, &state);
                let generation = held.generation + 1;
                *held = Arc::new(Held { state, generation });
            }
            changed
        });
        let heard = Heard {
            way: memory.way,
            keys_at: memory.base.keys_confirmed_at,
            sso_at: memory.base.sso_fetched_at,
        };
        // After the state, so that whoever hears of it finds it.
        self.heard.send_if_modified(|current| std::mem::replace(current, heard) != heard);
        for (part, at) in [("keys", heard.keys_at), ("sso", heard.sso_at)] {
            if let Some(at) = at {
                let age = (now - at).as_seconds_f64();
                metrics::gauge!("dispatcher_auth_state_age_seconds", "part" => part).set(age);
            }
        }
    }
}
