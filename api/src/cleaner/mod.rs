//! The cleaner: what time does to runs and to what is kept.
//!
//! One look is a number of small commits, each of which repeats its own condition, so any number of
//! instances may look at once and a look may be cut off anywhere.

use std::sync::Arc;

use time::OffsetDateTime;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{
    config::cleaner::CleanerSettings,
    store::{Expired, StoreResult, UpkeepStore},
};

/// The most runs that expire in one commit.
const BATCH: i64 = 500;

/// What the cleaner needs.
#[derive(Clone)]
pub struct Cleaner {
    upkeep: Arc<dyn UpkeepStore>,
    settings: CleanerSettings,
}

impl std::fmt::Debug for Cleaner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cleaner").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Cleaner {
    /// Ready to look.
    #[must_use]
    pub fn new(upkeep: Arc<dyn UpkeepStore>, settings: CleanerSettings) -> Self {
        Self { upkeep, settings }
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
            metrics::counter!("dispatcher_cleaner_timeouts_total", "what" => "run")
                .increment(expired.runs);
            metrics::counter!("dispatcher_cleaner_timeouts_total", "what" => "run_host")
                .increment(expired.hosts);
        }
        if all != Expired::default() {
            tracing::info!(runs = all.runs, hosts = all.hosts, "time is over");
        }
        let forgotten = self.upkeep.forget(now, now - self.settings.events_keep).await?;
        metrics::counter!("dispatcher_cleaner_forgotten_total").increment(forgotten);
        Ok(all)
    }
}
