//! The cleaner: what time does to runs and to what is kept.
//!
//! One look is a number of small commits, each of which repeats its own condition, so any number of
//! instances may look at once and a look may be cut off anywhere.

use std::sync::Arc;

use time::OffsetDateTime;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{
    bus::{Topic, Wakeups},
    config::cleaner::CleanerSettings,
    store::{Expired, StoreResult, UpkeepStore},
};

pub mod retention;

/// The most runs that expire in one commit.
const BATCH: i64 = 500;
/// The most rows of one table that are forgotten in one commit, so that others get their turn.
const FORGET_BATCH: i64 = 5_000;
/// The most commits that forget in one look; what is left then waits for the next.
const FORGET_ROUNDS: usize = 100;

/// What the cleaner needs.
#[derive(Clone)]
pub struct Cleaner {
    upkeep: Arc<dyn UpkeepStore>,
    settings: CleanerSettings,
    /// Whether events wait for a broker, so that only what it has is forgotten.
    has_broker: bool,
    wakeups: Wakeups,
}

impl std::fmt::Debug for Cleaner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cleaner").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Cleaner {
    /// Ready to look. `has_broker`: events that it does not have yet are kept. Who publishes them
    /// is woken.
    #[must_use]
    pub fn new(
        upkeep: Arc<dyn UpkeepStore>,
        settings: CleanerSettings,
        has_broker: bool,
        wakeups: Wakeups,
    ) -> Self {
        Self { upkeep, settings, has_broker, wakeups }
    }

    /// Looks again and again until the end of the process. One look at a time: the next begins an
    /// interval after the one before has begun, or when that has ended.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval_at(Instant::now(), self.settings.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let looking = async {
            loop {
                ticks.tick().await;
                if let Err(error) = self.once(OffsetDateTime::now_utc()).await {
                    metrics::counter!("dispatcher_cleaner_errors_total").increment(1);
                    tracing::warn!(%error, "the cleaner failed; it tries again");
                }
            }
        };
        let _ = shutdown.run_until_cancelled(looking).await;
    }

    /// One look: everything whose time is over at `now`.
    ///
    /// # Errors
    /// When the store fails; what was done before stays done.
    pub async fn once(&self, now: OffsetDateTime) -> StoreResult<Expired> {
        let now = now.truncate_to_microsecond();
        let mut all = Expired::default();
        loop {
            let expired = self.upkeep.expire(now, BATCH).await?;
            if expired == Expired::default() {
                break;
            }
            all.runs += expired.runs;
            all.hosts += expired.hosts;
            self.wakeups.wake(Topic::Events);
            metrics::counter!("dispatcher_cleaner_timeouts_total", "what" => "run")
                .increment(expired.runs);
            metrics::counter!("dispatcher_cleaner_timeouts_total", "what" => "run_host")
                .increment(expired.hosts);
        }
        if all != Expired::default() {
            tracing::info!(runs = all.runs, hosts = all.hosts, "time is over");
        }
        self.forget(now).await?;
        Ok(all)
    }

    /// Forgets what is kept long enough, a bounded number of commits a look.
    async fn forget(&self, now: OffsetDateTime) -> StoreResult<()> {
        for _ in 0..FORGET_ROUNDS {
            let before = now - self.settings.events_keep;
            let forgotten = self.upkeep.forget(now, before, self.has_broker, FORGET_BATCH).await?;
            metrics::counter!("dispatcher_cleaner_forgotten_total").increment(forgotten);
            if forgotten < FORGET_BATCH.unsigned_abs() {
                return Ok(());
            }
        }
        tracing::info!("more is to be forgotten than one look may; the next goes on");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::*;
    use crate::store::StoreError;

    /// Has so many runs to expire, a host each, and old rows; notes what it was asked.
    #[derive(Default)]
    struct Rows {
        runs: Mutex<u64>,
        old: Mutex<u64>,
        fail: bool,
        calls: Mutex<Vec<(&'static str, OffsetDateTime)>>,
    }

    #[async_trait]
    impl UpkeepStore for Rows {
        async fn ping(&self) -> StoreResult<()> {
            Ok(())
        }

        async fn expire(&self, now: OffsetDateTime, limit: i64) -> StoreResult<Expired> {
            self.calls.lock().unwrap().push(("expire", now));
            if self.fail {
                return Err(StoreError::Unavailable("gone".to_owned()));
            }
            let mut left = self.runs.lock().unwrap();
            let runs = left.min(limit.unsigned_abs());
            *left -= runs;
            Ok(Expired { runs, hosts: runs })
        }

        async fn forget(
            &self,
            _: OffsetDateTime,
            before: OffsetDateTime,
            _: bool,
            limit: i64,
        ) -> StoreResult<u64> {
            self.calls.lock().unwrap().push(("forget", before));
            let mut left = self.old.lock().unwrap();
            let forgotten = left.min(limit.unsigned_abs());
            *left -= forgotten;
            Ok(forgotten)
        }
    }

    fn with(rows: &Arc<Rows>, settings: CleanerSettings) -> Cleaner {
        let upkeep = Arc::clone(rows) as Arc<dyn UpkeepStore>;
        Cleaner::new(upkeep, settings, false, Wakeups::default())
    }

    fn cleaner(rows: &Arc<Rows>) -> Cleaner {
        with(rows, CleanerSettings::default())
    }

    #[tokio::test]
    async fn one_look_goes_on_until_nothing_is_left() {
        let rows = Arc::new(Rows { runs: Mutex::new(1201), ..Rows::default() });
        let now = OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap();
        let expired = cleaner(&rows).once(now).await.unwrap();
        assert_eq!(expired, Expired { runs: 1201, hosts: 1201 });
        let before = now - CleanerSettings::default().events_keep;
        let calls = rows.calls.lock().unwrap().clone();
        assert_eq!(calls, [vec![("expire", now); 4], vec![("forget", before)]].concat());
    }

    #[tokio::test]
    async fn one_look_forgets_until_nothing_is_left_but_not_for_ever() {
        let batch = FORGET_BATCH.unsigned_abs();
        let most = batch * FORGET_ROUNDS as u64;
        for (old, looks, left) in
            [(0, 1, 0), (batch, 2, 0), (2 * batch + 1, 3, 0), (most + 7, 100, 7)]
        {
            let rows = Arc::new(Rows { old: Mutex::new(old), ..Rows::default() });
            cleaner(&rows)
                .once(OffsetDateTime::UNIX_EPOCH + CleanerSettings::default().events_keep)
                .await
                .unwrap();
            let calls = rows.calls.lock().unwrap().clone();
            let forgets =
                calls.iter().filter(|call| **call == ("forget", OffsetDateTime::UNIX_EPOCH));
            assert_eq!((forgets.count(), *rows.old.lock().unwrap()), (looks, left), "of {old}");
        }
    }

    #[tokio::test]
    async fn a_failure_is_reported_and_nothing_is_forgotten() {
        let rows = Arc::new(Rows { fail: true, ..Rows::default() });
        assert!(cleaner(&rows).once(OffsetDateTime::UNIX_EPOCH).await.is_err());
        assert_eq!(rows.calls.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn it_looks_again_after_a_failure_and_ends_with_the_process() {
        let rows = Arc::new(Rows { fail: true, ..Rows::default() });
        let interval = std::time::Duration::from_millis(1);
        let settings = CleanerSettings { interval, ..CleanerSettings::default() };
        let cleaner = with(&rows, settings);
        let shutdown = CancellationToken::new();
        let looking = cleaner.run(shutdown.clone());
        let ending = async {
            while rows.calls.lock().unwrap().len() < 3 {
                tokio::task::yield_now().await;
            }
            shutdown.cancel();
        };
        tokio::join!(looking, ending);
        assert!(rows.calls.lock().unwrap().iter().all(|(call, _)| *call == "expire"));
    }
}
