//! The state as one instance holds it: from the shared snapshot while that is fresh, else from the
//! same sources that the tracker asks.
//!
//! [`Feed::run`] keeps it current, [`Feed::current`] is what requests look at. It never waits for
//! anything, except for whoever asks for a key that is not there ([`Feed::request_refetch`]).

mod look;
mod refetch;
#[cfg(test)]
mod refetch_tests;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use time::OffsetDateTime;
use tokio::sync::{Notify, watch};

pub use refetch::REFETCH_WAIT;
use refetch::{Ask, Gone};

use crate::{
    clock::Clock,
    ports::{KeySource, PortError, Seal},
    reconcile::{Fetched, Said, reconcile, with_settings},
    sources::{psk::PskSource, sso::Fetcher},
    state::{AuthState, ServiceKey, SsoKey},
};

/// Between two looks without a hint.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How old a snapshot may be: more than one re-issue, less than two.
pub const MOST_AGE: time::Duration = time::Duration::seconds(15);

/// Where the tracker's snapshot is found, and how it is asked for more.
#[async_trait]
pub trait Board: Send + Sync {
    /// What stands where the version of the snapshot belongs.
    async fn version(&self) -> Result<Option<String>, PortError>;

    /// What stands where the snapshot belongs, at most one byte more than a snapshot may have.
    async fn snapshot(&self) -> Result<Option<Vec<u8>>, PortError>;

    /// Asks the tracker for a fetch of the SSO server's keys, unless somebody did a moment ago; how
    /// long ago that was, zero where it was now.
    async fn want_keys(&self) -> Result<Duration, PortError>;

    /// Asks the tracker to look at the database now.
    async fn want_look(&self) -> Result<(), PortError>;

    /// Passes hints that there is a new snapshot on, until it is dropped. A hint may get lost.
    async fn hear(&self, hints: &Notify);
}

/// What a feed is made of.
pub struct Parts {
    /// The shared snapshot; `None`: the sources are asked directly.
    pub board: Option<Arc<dyn Board>>,
    /// The database.
    pub database: Arc<dyn KeySource>,
    /// The SSO server, if there is one.
    pub sso: Option<Arc<Fetcher>>,
    /// The key that was configured for it.
    pub configured: Option<Fetched>,
    /// Keys that this process's settings name.
    pub settings: Vec<ServiceKey>,
    /// The shared secrets.
    pub seal: Arc<dyn Seal>,
    /// How long keys are believed without their source.
    pub max_staleness: Duration,
    /// The time.
    pub clock: Clock,
}

/// The key that was configured, as something fetched: see [`Parts::configured`].
#[must_use]
pub fn configured(key: SsoKey, issuers: Vec<String>) -> Fetched {
    Fetched { keys: vec![key], issuers, at: None }
}

/// A state in force.
#[derive(Clone, Debug)]
pub struct Held {
    /// The state, with the keys of the settings.
    pub state: AuthState,
    /// Grows with every state that lets in others than the one before.
    pub generation: u64,
}

/// Which half of the state.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// Keys of services, from the database.
    Keys,
    /// Keys of the SSO server.
    Sso,
}

/// Where the state comes from just now.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Way {
    /// From nowhere yet.
    #[default]
    Nowhere,
    /// From the tracker's snapshot.
    Shared,
    /// From the sources themselves.
    Direct,
}

/// What was heard, and when.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Heard {
    way: Way,
    keys_at: Option<OffsetDateTime>,
    sso_at: Option<OffsetDateTime>,
}

/// The state as one instance holds it.
pub struct Feed {
    board: Option<Arc<dyn Board>>,
    psk: PskSource,
    sso: Option<Arc<Fetcher>>,
    settings: Vec<ServiceKey>,
    seal: Arc<dyn Seal>,
    max_staleness: Duration,
    clock: Clock,
    first: AuthState,
    held: watch::Sender<Arc<Held>>,
    heard: watch::Sender<Heard>,
    asked: watch::Sender<Ask>,
    gone: Mutex<Gone>,
    /// Look.
    nudge: Notify,
    /// Ask the tracker for keys of the SSO server.
    wanted: Notify,
    /// Tell the tracker that a key was changed.
    told: Notify,
}

impl std::fmt::Debug for Feed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Feed").field("heard", &*self.heard.borrow()).finish_non_exhaustive()
    }
}

impl Feed {
    /// A feed that holds what is configured, until [`Feed::run`] has heard more.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { board, database, sso, configured, settings, seal, max_staleness, clock } =
            parts;
        let now = clock.now();
        let said = Said { keys: None, sso: configured };
        let first = reconcile(&AuthState::default(), said, now).state;
        let (state, _) = with_settings(first.clone(), &settings, now);
        Self {
            board,
            psk: PskSource::new(database, clock.clone()),
            sso,
            settings,
            seal,
            max_staleness,
            clock,
            first,
            held: watch::Sender::new(Arc::new(Held { state, generation: 0 })),
            heard: watch::Sender::default(),
            asked: watch::Sender::default(),
            gone: Mutex::default(),
            nudge: Notify::new(),
            wanted: Notify::new(),
            told: Notify::new(),
        }
    }

    /// The state in force.
    #[must_use]
    pub fn current(&self) -> Arc<Held> {
        Arc::clone(&self.held.borrow())
    }

    /// Tells of every state that lets in others than the one before.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<Held>> {
        self.held.subscribe()
    }

    /// Where the state comes from just now.
    #[must_use]
    pub fn way(&self) -> Way {
        self.heard.borrow().way
    }

    /// When a part was last confirmed by its source. `None`: never, or it comes from the settings.
    #[must_use]
    pub fn confirmed_at(&self, part: Part) -> Option<OffsetDateTime> {
        let heard = self.heard.borrow();
        match part {
            Part::Keys => heard.keys_at,
            Part::Sso => heard.sso_at,
        }
    }

    /// Whether a part has not been confirmed for longer than it is believed. Keys that this
    /// process's settings name need no confirmation: whoever presents one is known all the same.
    #[must_use]
    pub fn is_stale(&self, part: Part) -> bool {
        match self.confirmed_at(part) {
            Some(at) => self.clock.now() - at > self.max_staleness,
            // A configured key is in use, which needs no confirmation.
            None => part == Part::Keys || self.held.borrow().state.sso_keys.is_empty(),
        }
    }

    /// Waits until the database has confirmed keys for the first time.
    pub async fn heard_of_keys(&self) {
        let mut heard = self.heard.subscribe();
        // The sender lives as long as this.
        let _ = heard.wait_for(|heard| heard.keys_at.is_some()).await;
    }

    /// Has this instance look at once, and the tracker told to: a key was changed here. Waits for
    /// neither.
    pub fn keys_changed(&self) {
        self.nudge.notify_one();
        self.told.notify_one();
    }
}
