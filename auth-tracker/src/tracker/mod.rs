//! The tracker: of all that run, one holds the lease, gathers the state for everybody, publishes it,
//! and writes last-authentication times down. The others stand by.
//!
//! The lease is a row in the database with an epoch, which is the upper half of every version that
//! is published under it. Whoever lost the lease stops; whoever does not know that it lost it (a
//! paused process) is refused by the version in Redis.

mod desk;
mod round;
mod term;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::{desk::Desk, term::Term};
use crate::{
    clock::Clock,
    drain::Drain,
    last_auth::Rule,
    layout::WANTED,
    measures,
    ports::{KeySource, LastAuthSink, Leases, Seal},
    reconcile::{Fetched, Said, reconcile},
    redis::AuthRedis,
    sources::{psk::PskSource, sso::Fetcher},
    state::AuthState,
};

/// The name of the lease.
pub const LEASE: &str = "auth-tracker";
/// How long the lease lasts: with a look every half second, a stand-by has it within six seconds.
pub const LEASE_TTL: Duration = Duration::from_secs(5);
/// Between two looks at the database and at Redis.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Between two looks, however many hints there are.
const LEAST_PAUSE: Duration = Duration::from_millis(20);
/// Between two looks at whether times have to be written down.
const DRAIN_LOOK: Duration = Duration::from_secs(1);
/// Between a drain that failed and the next, at least.
const DRAIN_RETRY: Duration = Duration::from_secs(5);
/// The most that writing times down may take at the end of the process.
const LAST_DRAIN: Duration = Duration::from_secs(10);

/// What a tracker is made of.
pub struct Parts {
    /// Where the state is published.
    pub redis: AuthRedis,
    /// Keys of services.
    pub database: Arc<dyn KeySource>,
    /// Where times are written down.
    pub times: Arc<dyn LastAuthSink>,
    /// Who is active.
    pub leases: Arc<dyn Leases>,
    /// The SSO server, if there is one.
    pub sso: Option<Arc<Fetcher>>,
    /// The key that was configured for it, and what its tokens may name as their issuer.
    pub configured: Option<Fetched>,
    /// Every issuer that the SSO server may turn out to have: keys of others are not continued.
    pub issuers: Vec<String>,
    /// The shared secrets.
    pub seal: Arc<dyn Seal>,
    /// When times are written down.
    pub rule: Rule,
    /// How long keys are believed without their source.
    pub max_staleness: Duration,
    /// What people call this process.
    pub name: String,
    /// The time.
    pub clock: Clock,
}

/// What a tracker is doing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Role {
    /// Nothing yet.
    #[default]
    Starting,
    /// Waiting for the lease.
    StandBy,
    /// Publishing under this epoch.
    Active(i64),
}

/// How a tracker is.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Status {
    /// What it is doing.
    pub role: Role,
    /// The version of the keys that it published last; 0: none yet.
    pub auth_version: u64,
    /// What does not work, by name.
    pub problems: BTreeMap<&'static str, String>,
}

/// A tracker.
pub struct Tracker {
    redis: AuthRedis,
    psk: PskSource,
    leases: Arc<dyn Leases>,
    sso: Option<Arc<Fetcher>>,
    issuers: Vec<String>,
    seal: Arc<dyn Seal>,
    rule: Rule,
    max_staleness: Duration,
    name: String,
    clock: Clock,
    first: AuthState,
    drain: Drain,
    holder: Uuid,
    hints: Notify,
    dirty: AtomicUsize,
    last_version: AtomicU64,
    status: Mutex<Status>,
}

impl std::fmt::Debug for Tracker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tracker").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl Tracker {
    /// A tracker of these parts, which does nothing yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let Parts { redis, database, times, leases, sso, configured, issuers, .. } = parts;
        let Parts { seal, rule, max_staleness, name, clock, .. } = parts;
        let said = Said { keys: None, sso: configured };
        Self {
            first: reconcile(&AuthState::default(), said, clock.now()).state,
            drain: Drain::new(redis.clone(), times, clock.clone()),
            psk: PskSource::new(database, clock.clone()),
            redis,
            leases,
            sso,
            issuers,
            seal,
            rule,
            max_staleness,
            name,
            clock,
            holder: Uuid::new_v4(),
            hints: Notify::new(),
            dirty: AtomicUsize::new(0),
            last_version: AtomicU64::new(0),
            status: Mutex::default(),
        }
    }

    /// How it is.
    #[must_use]
    pub fn status(&self) -> Status {
        self.locked_status().clone()
    }

    /// Works until the process ends: then times are written down once more, and the lease is given
    /// back. `turned` is called by the loop itself, at least every few seconds.
    pub async fn run(&self, shutdown: &CancellationToken, turned: &(dyn Fn(&Status) + Sync)) {
        measures::describe_tracker();
        let listening = self.redis.listen(WANTED, &self.hints);
        let fetching = async {
            match &self.sso {
                Some(fetcher) => fetcher.run().await,
                None => std::future::pending().await,
            }
        };
        let working = async {
            while !shutdown.is_cancelled() {
                match self.take_lease().await {
                    Some(term) => self.lead(&term, shutdown, turned).await,
                    None => {
                        self.becomes(Role::StandBy);
                        turned(&self.status());
                        let pause = tokio::time::sleep(LOOK_EVERY);
                        let _ = shutdown.run_until_cancelled(pause).await;
                    }
                }
            }
        };
        tokio::select! {
            () = working => {}
            () = listening => {}
            () = fetching => {}
        }
    }

    /// Gathers, publishes and writes times down, once. Where another tracker is active, that one
    /// publishes, and only times are written.
    ///
    /// # Errors
    /// Everything that did not work.
    pub async fn once(&self) -> Result<(), Vec<String>> {
        if let Some(term) = self.take_lease().await {
            self.becomes(Role::Active(term.epoch));
            if let Some(fetcher) = &self.sso {
                fetcher.set_active(true);
                let mut outcomes = fetcher.outcomes();
                tokio::select! {
                    _ = outcomes.wait_for(|outcome| outcome.count > 0) => {}
                    () = fetcher.run() => {}
                }
                self.problem("sso", fetcher.outcome().failed);
            }
            self.renew(&term).await;
            let mut desk = Desk::new(self, term.epoch);
            if self.round(&term, &mut desk).await.is_err() {
                self.problem("lease", Some("another tracker took over".to_owned()));
            }
        } else if self.status().problems.is_empty() {
            tracing::info!("another tracker is active, and publishes; only times are written down");
        }
        self.drain_once().await;
        self.release().await;
        let problems = self.status().problems;
        if problems.is_empty() {
            return Ok(());
        }
        Err(problems.into_iter().map(|(name, problem)| format!("{name}: {problem}")).collect())
    }

    /// Is the active tracker, until the lease is lost or the process ends.
    async fn lead(
        &self,
        term: &Term,
        shutdown: &CancellationToken,
        turned: &(dyn Fn(&Status) + Sync),
    ) {
        self.becomes(Role::Active(term.epoch));
        if let Some(fetcher) = &self.sso {
            fetcher.set_active(true);
        }
        self.drain.look_for_left();
        let ending = tokio::select! {
            () = self.keep_lease(term) => false,
            () = self.keep_published(term, turned) => false,
            () = self.keep_drained() => false,
            () = shutdown.cancelled() => true,
        };
        if let Some(fetcher) = &self.sso {
            fetcher.set_active(false);
        }
        if ending {
            if tokio::time::timeout(LAST_DRAIN, self.drain_once()).await.is_err() {
                tracing::warn!("times could not be written down in time; the next tracker does");
            }
            self.release().await;
        }
    }

    async fn keep_published(&self, term: &Term, turned: &(dyn Fn(&Status) + Sync)) {
        let mut desk = Desk::new(self, term.epoch);
        let mut outcomes = self.sso.as_ref().map(|fetcher| fetcher.outcomes());
        while self.round(term, &mut desk).await.is_ok() {
            turned(&self.status());
            tokio::time::sleep(LEAST_PAUSE).await;
            let fetched = async {
                match &mut outcomes {
                    Some(outcomes) => drop(outcomes.changed().await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY - LEAST_PAUSE) => {}
                () = self.hints.notified() => {}
                () = fetched => {}
            }
        }
        tracing::warn!("a newer snapshot is in Redis: another tracker has taken over");
    }

    async fn keep_drained(&self) {
        let mut last: Option<Instant> = None;
        let mut least = Duration::ZERO;
        loop {
            let since = last.map(|last| last.elapsed());
            let due = since.is_none_or(|since| since >= self.rule.interval);
            let many = self.dirty.load(Ordering::Relaxed) >= self.rule.threshold;
            if (due || many) && since.is_none_or(|since| since >= least) {
                least = if self.drain_once().await { Duration::ZERO } else { DRAIN_RETRY };
                last = Some(Instant::now());
            }
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    }

    async fn drain_once(&self) -> bool {
        let drained = self.drain.drain().await;
        self.problem("drain", drained.as_ref().err().map(ToString::to_string));
        if let Ok(times @ 1..) = drained {
            tracing::debug!(times, "times of last authentication are written down");
        }
        drained.is_ok()
    }

    fn becomes(&self, role: Role) {
        let mut status = self.locked_status();
        if status.role != role {
            status.role = role;
            metrics::gauge!("dispatcher_tracker_active").set(if matches!(role, Role::Active(_)) {
                1.0
            } else {
                0.0
            });
            match role {
                Role::Active(epoch) => tracing::info!(epoch, "this tracker is active"),
                _ => tracing::info!("another tracker is active, or none can be; standing by"),
            }
        }
    }

    /// Notes which keys everybody can have now.
    fn published(&self, auth_version: u64) {
        self.locked_status().auth_version = auth_version;
    }

    /// Notes that something does not work, or works again; says so when that is new.
    fn problem(&self, name: &'static str, problem: Option<String>) {
        let problems = &mut self.locked_status().problems;
        match problem {
            Some(problem) => {
                if problems.get(name) != Some(&problem) {
                    tracing::warn!(problem, "{name} does not work");
                    problems.insert(name, problem);
                }
            }
            None => {
                if problems.remove(name).is_some() {
                    tracing::info!("{name} works again");
                }
            }
        }
    }

    fn locked_status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
