//! How fast messages may go (contract §1.14): a token bucket that all instances share in Redis, and
//! one of the process itself, which is always kept to and stands in where Redis is away.
//!
//! Whoever comes is told at once when their turn is, so that turns are in the order of coming.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use auth_tracker::redis::AuthRedis;
use tokio::time::{Instant, sleep_until, timeout};

/// The name of the bucket that instances share.
const BUCKET: &str = "dispatcher:limit:cloud-connector";
/// How long an answer about the shared bucket is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long it is not asked after it did not answer.
const PAUSE: Duration = Duration::from_secs(5);

/// How fast.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// Messages a second, on average.
    pub per_second: u32,
    /// Messages at once.
    pub burst: u32,
}

/// A bucket that several instances take from.
#[async_trait]
pub trait SharedBucket: Send + Sync {
    /// Takes a token; how long it is until it is there.
    ///
    /// # Errors
    /// Why nobody knows.
    async fn take(&self, rate: Rate) -> Result<Duration, String>;
}

#[async_trait]
impl SharedBucket for AuthRedis {
    async fn take(&self, rate: Rate) -> Result<Duration, String> {
        let turn = self.take_turn(BUCKET, rate.per_second, rate.burst).await;
        turn.map_err(|error| error.to_string())
    }
}

/// Gives turns.
pub struct Limiter {
    rate: Rate,
    own: Mutex<Bucket>,
    shared: Option<Shared>,
}

/// The bucket of all instances, as this one sees it.
struct Shared {
    bucket: Arc<dyn SharedBucket>,
    /// Not asked before then.
    again: Mutex<Option<Instant>>,
    away: AtomicBool,
}

impl std::fmt::Debug for Limiter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limiter").field("rate", &self.rate).finish_non_exhaustive()
    }
}

impl Limiter {
    /// With the bucket of this process, and the one of all instances where there is one.
    pub fn new(rate: Rate, shared: Option<Arc<dyn SharedBucket>>) -> Self {
        let shared = shared.map(|bucket| Shared {
            bucket,
            again: Mutex::default(),
            away: AtomicBool::default(),
        });
        Self { rate, own: Mutex::new(Bucket::new(rate, Instant::now())), shared }
    }

    /// Waits for a turn. Both buckets are taken from: the process's own is then as empty as it ought
    /// to be when Redis goes, and Redis that comes back empty allows no more than it does.
    pub async fn turn(&self) {
        let now = Instant::now();
        let own = now + self.own.lock().unwrap_or_else(PoisonError::into_inner).take(now);
        let shared = match &self.shared {
            Some(shared) => shared.turn(self.rate).await,
            None => None,
        };
        let turn = shared.map_or(own, |shared| own.max(shared));
        if turn > Instant::now() {
            sleep_until(turn).await;
        }
    }
}

impl Shared {
    /// When the turn is, by the bucket of all instances; none where it does not answer.
    async fn turn(&self, rate: Rate) -> Option<Instant> {
        if self.again().is_some_and(|again| Instant::now() < again) {
            return None;
        }
        let bucket = Arc::clone(&self.bucket);
        // In a task of its own: whoever gives up waiting must not keep it from looking for another
        // server.
        let asked = tokio::spawn(async move { bucket.take(rate).await });
        let taken = match timeout(PATIENCE, asked).await {
            Ok(taken) => taken.unwrap_or_else(|error| Err(error.to_string())),
            Err(_) => Err("it did not answer in time".to_owned()),
        };
        match taken {
            Ok(wait) => {
                if self.away.swap(false, Ordering::Relaxed) {
                    tracing::info!(
                        "messages to Cloud Connector are limited for all instances again"
                    );
                }
                Some(Instant::now() + wait)
            }
            Err(error) => {
                *self.again.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(Instant::now() + PAUSE);
                if !self.away.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        error,
                        "Redis is away: messages to Cloud Connector are limited by each instance \
                         alone"
                    );
                }
                None
            }
        }
    }

    fn again(&self) -> Option<Instant> {
        *self.again.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Bucket {
    per_second: f64,
    burst: f64,
    /// Below zero: promised to those who wait.
    tokens: f64,
    at: Instant,
}

impl Bucket {
    fn new(rate: Rate, now: Instant) -> Self {
        let (per_second, burst) = (f64::from(rate.per_second.max(1)), f64::from(rate.burst.max(1)));
        Self { per_second, burst, tokens: burst, at: now }
    }

    /// Takes a token, and says how long to wait until it is there.
    fn take(&mut self, now: Instant) -> Duration {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = self.burst.min(passed.mul_add(self.per_second, self.tokens)) - 1.0;
        self.at = self.at.max(now);
        Duration::try_from_secs_f64(-self.tokens / self.per_second).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    const fn rate(per_second: u32, burst: u32) -> Rate {
        Rate { per_second, burst }
    }

    #[test]
    fn a_burst_passes_at_once_and_the_rest_at_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(rate(5, 5), start);
        for _ in 0..5 {
            assert_eq!(bucket.take(start), Duration::ZERO);
        }
        for nth in 1..=5_u32 {
            let wait = bucket.take(start);
            let expected = Duration::from_millis(200) * nth;
            assert!(wait.abs_diff(expected) < Duration::from_millis(1), "{wait:?}");
        }
        let later = start + Duration::from_secs(60);
        for _ in 0..5 {
            assert_eq!(bucket.take(later), Duration::ZERO, "never more than a burst is saved up");
        }
        assert!(bucket.take(later) > Duration::ZERO);
    }

    #[test]
    fn time_that_goes_backwards_gives_nothing() {
        let start = Instant::now();
        let mut bucket = Bucket::new(rate(1, 1), start + Duration::from_secs(10));
        assert_eq!(bucket.take(start), Duration::ZERO);
        assert!(bucket.take(start) > Duration::from_millis(900));
    }

    /// Says what a test wants, and counts.
    #[derive(Default)]
    struct Scripted {
        broken: AtomicBool,
        silent: AtomicBool,
        asked: AtomicUsize,
    }

    #[async_trait]
    impl SharedBucket for Scripted {
        async fn take(&self, _rate: Rate) -> Result<Duration, String> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            if self.silent.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            if self.broken.load(Ordering::Relaxed) {
                return Err("broken".to_owned());
            }
            Ok(Duration::from_secs(3))
        }
    }

    async fn waited(limiter: &Limiter) -> f64 {
        let started = Instant::now();
        limiter.turn().await;
        started.elapsed().as_secs_f64()
    }

    #[tokio::test(start_paused = true)]
    async fn the_longer_wait_counts_and_a_bucket_that_is_away_is_not_asked_again_at_once() {
        let shared = Arc::new(Scripted::default());
        let limiter = Limiter::new(rate(1000, 1000), Some(shared.clone()));
        assert!(waited(&limiter).await > 2.0, "the shared bucket says so");
        shared.broken.store(true, Ordering::Relaxed);
        assert!(waited(&limiter).await < 0.1, "the own bucket is full");
        assert!(waited(&limiter).await < 0.1);
        assert_eq!(shared.asked.load(Ordering::Relaxed), 2, "it has its pause");
        let Some(of_all) = &limiter.shared else { panic!() };
        *of_all.again.lock().unwrap() = None;
        shared.silent.store(true, Ordering::Relaxed);
        let wait = waited(&limiter).await;
        assert!((0.9..1.5).contains(&wait), "{wait}");
        *of_all.again.lock().unwrap() = None;
        shared.silent.store(false, Ordering::Relaxed);
        shared.broken.store(false, Ordering::Relaxed);
        assert!(waited(&limiter).await > 2.0, "it is back");
    }
}
