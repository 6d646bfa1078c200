//! Writes last-authentication times from Redis into the database (contract §8).
//!
//! The set of names is renamed, its times are written in one transaction per batch, and only then
//! is it removed. Whatever happens in between leaves a set behind, which is written at the next
//! start or after the next success: writing it twice changes nothing, since no time moves
//! backwards.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{
    clock::Clock,
    ports::{LastAuthSink, PortError},
    redis::{AuthRedis, Taken},
};

/// The most that writing one batch may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Writes times down.
pub struct Drain {
    redis: AuthRedis,
    sink: Arc<dyn LastAuthSink>,
    clock: Clock,
    /// Whether there may be sets that were left behind.
    left: AtomicBool,
}

impl std::fmt::Debug for Drain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Drain").field("left", &self.left).finish_non_exhaustive()
    }
}

impl Drain {
    /// From here to there.
    #[must_use]
    pub fn new(redis: AuthRedis, sink: Arc<dyn LastAuthSink>, clock: Clock) -> Self {
        Self { redis, sink, clock, left: AtomicBool::new(true) }
    }

    /// From now on, sets may have been left behind by somebody else.
    pub fn look_for_left(&self) {
        self.left.store(true, Ordering::Relaxed);
    }

    /// Writes everything down that is not yet; how many times that was.
    ///
    /// # Errors
    /// When Redis or the database fails. Nothing is lost then; the next drain finds it.
    pub async fn drain(&self) -> Result<u64, PortError> {
        let drained = self.everything().await;
        let (outcome, times) = drained.as_ref().map_or(("failure", 0), |times| ("success", *times));
        metrics::counter!("dispatcher_auth_drains_total", "outcome" => outcome).increment(1);
        metrics::counter!("dispatcher_auth_drained_times_total").increment(times);
        drained
    }

    async fn everything(&self) -> Result<u64, PortError> {
        let (mut written, mut failed) = (0, None);
        if self.left.load(Ordering::Relaxed) {
            let sets = self.redis.left().await?;
            self.left.store(false, Ordering::Relaxed);
            for set in sets {
                match self.write(&set).await {
                    Ok(times) => written += times,
                    // What is wrong with one of them must not hold up the others.
                    Err(error) => failed = Some(error),
                }
            }
        }
        let taken = self.taken().await;
        match failed {
            Some(error) => Err(error),
            None => Ok(written + taken?),
        }
    }

    async fn taken(&self) -> Result<u64, PortError> {
        match self.redis.take(self.clock.now()).await {
            Ok(Taken::As(set)) => self.write(&set).await,
            Ok(Taken::Nothing | Taken::Later) => Ok(0),
            Err(error) => {
                // It may have been taken, only the answer was lost.
                self.look_for_left();
                Err(error)
            }
        }
    }

    async fn write(&self, set: &str) -> Result<u64, PortError> {
        let written = self.write_times(set).await;
        if written.is_err() {
            self.look_for_left();
            // Where even that fails, it stays under its name, and is found by that.
            let _ = self.redis.keep(set, self.clock.now()).await;
        }
        written
    }

    async fn write_times(&self, set: &str) -> Result<u64, PortError> {
        let (mut place, mut written) = (0, 0);
        loop {
            let (times, next) = self.redis.times(set, place, self.clock.now()).await?;
            if !times.is_empty() {
                let late = |_| PortError("the database did not answer in time".to_owned());
                let noted = tokio::time::timeout(WRITE_TIMEOUT, self.sink.note(&times));
                noted.await.map_err(late)??;
                written += times.len() as u64;
            }
            if next == 0 {
                self.redis.written(set).await?;
                return Ok(written);
            }
            place = next;
        }
    }
}
