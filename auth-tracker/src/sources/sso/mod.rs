//! Keys of the SSO server: fetched again and again by one task, and at once when somebody met a key
//! id that nobody knows. However many ask, there is one fetch at a time, and all get its result.
//!
//! What a failed fetch leaves behind is what was there before.

mod discovery;
mod jwks;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

pub use discovery::{Discovery, FetchError, Server, client};
pub use jwks::{Usable, configured, usable};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::{clock::Clock, reconcile::Fetched};

/// Between two fetches that were asked for.
pub const ASKED_PAUSE: Duration = Duration::from_secs(10);
/// Between a fetch that failed and the next, at most.
const FAILED_PAUSE: Duration = Duration::from_secs(10);
/// The most reasons that are remembered as said.
const MOST_SAID: usize = 256;

/// What the last fetches brought.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// How many fetches have ended.
    pub count: u64,
    /// What the last successful one brought.
    pub latest: Option<Arc<Fetched>>,
    /// Why the last one failed, if it did.
    pub failed: Option<String>,
}

#[derive(Debug, Default)]
struct Flight {
    under_way: bool,
    asked: Option<Instant>,
}

/// Fetches keys. Shared by the task that does and everybody who asks.
#[derive(Debug)]
pub struct Fetcher {
    discovery: Discovery,
    refresh: Duration,
    clock: Clock,
    flight: Mutex<Flight>,
    wanted: Notify,
    /// Whether keys are fetched regularly. While not, nothing is fetched at all.
    active: watch::Sender<bool>,
    outcome: watch::Sender<Outcome>,
    said: Mutex<BTreeSet<String>>,
}

impl Fetcher {
    /// Fetches by this discovery, `refresh` apart.
    #[must_use]
    pub fn new(discovery: Discovery, refresh: Duration, clock: Clock) -> Self {
        Self {
            discovery,
            refresh,
            clock,
            flight: Mutex::default(),
            wanted: Notify::new(),
            active: watch::Sender::new(false),
            outcome: watch::Sender::default(),
            said: Mutex::default(),
        }
    }

    /// From now on keys are fetched, or not any more. Becoming active fetches at once.
    pub fn set_active(&self, active: bool) {
        self.active.send_if_modified(|current| std::mem::replace(current, active) != active);
    }

    /// What was fetched last.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        self.outcome.borrow().clone()
    }

    /// Tells of every fetch that ends.
    #[must_use]
    pub fn outcomes(&self) -> watch::Receiver<Outcome> {
        self.outcome.subscribe()
    }

    /// Waits for the result of a fetch that begins now or is under way. Where one was asked for a
    /// moment ago, there is no other, and it returns at once.
    pub async fn ask(&self) -> Outcome {
        let mut outcomes = {
            let mut flight = self.flight();
            if !flight.under_way {
                if flight.asked.is_some_and(|asked| asked.elapsed() < ASKED_PAUSE) {
                    return self.outcome();
                }
                *flight = Flight { under_way: true, asked: Some(Instant::now()) };
                self.wanted.notify_one();
            }
            // Under the lock, so that the end of the fetch is not missed.
            self.outcome.subscribe()
        };
        // The sender lives as long as this.
        let _ = outcomes.changed().await;
        self.outcome()
    }

    /// Fetches until it is dropped.
    pub async fn run(&self) {
        let mut active = self.active.subscribe();
        let mut due = Instant::now();
        loop {
            if !*active.borrow_and_update() {
                // The sender lives as long as this.
                let _ = active.changed().await;
                due = Instant::now();
                continue;
            }
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                () = self.wanted.notified() => {}
                _ = active.changed() => continue,
            }
            self.flight().under_way = true;
            let fetched = self.fetch().await;
            let pause = if fetched { self.refresh } else { self.refresh.min(FAILED_PAUSE) };
            due = Instant::now() + pause;
        }
    }

    /// One fetch, whose result everybody hears of; whether it succeeded.
    async fn fetch(&self) -> bool {
        // The time before the question: what is true at its end may have changed since.
        let at = self.clock.now();
        let fetched = self.discovery.fetch().await;
        let succeeded = fetched.is_ok();
        let labels = [("outcome", if succeeded { "success" } else { "failure" })];
        metrics::counter!("dispatcher_auth_sso_fetches_total", &labels).increment(1);
        let result = fetched.map(|(issuer, usable)| {
            self.say_ignored(&usable.ignored);
            Fetched { keys: usable.keys, issuers: vec![issuer], at: Some(at) }
        });
        let mut flight = self.flight();
        flight.under_way = false;
        self.outcome.send_modify(|outcome| {
            outcome.count += 1;
            match result {
                Ok(fetched) => {
                    if outcome.failed.take().is_some() {
                        tracing::info!("keys of the SSO server are fetched again");
                    }
                    outcome.latest = Some(Arc::new(fetched));
                }
                Err(error) => {
                    let why = error.to_string();
                    if outcome.failed.as_ref() != Some(&why) {
                        tracing::warn!(%error, "keys of the SSO server were not fetched; those \
                                                known before stay in use");
                    }
                    outcome.failed = Some(why);
                }
            }
        });
        succeeded
    }

    fn say_ignored(&self, ignored: &[String]) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        for reason in ignored {
            if said.len() < MOST_SAID && said.insert(reason.clone()) {
                tracing::info!(reason, "a key of the SSO server is not used");
            }
        }
    }

    fn flight(&self) -> MutexGuard<'_, Flight> {
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
