//! A limit on messages to a connector (contract §1.14): a token bucket of the process, first come,
//! first served, without a limit on waiting.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{Connector, SendError};
use crate::runs::model::{NewRun, RunRow};

/// A connector that takes a token for every message.
#[derive(Debug)]
pub struct Limited<C> {
    inner: C,
    bucket: Mutex<Bucket>,
}

impl<C> Limited<C> {
    /// At most `burst` messages at once, and `per_second` on average.
    pub fn new(inner: C, per_second: u32, burst: u32) -> Self {
        Self { inner, bucket: Mutex::new(Bucket::new(per_second, burst, Instant::now())) }
    }

    /// Waits for a token. The lock is held while waiting, and it is fair: that is the queue.
    async fn token(&self) {
        let mut bucket = self.bucket.lock().await;
        let wait = bucket.take(Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

#[async_trait]
impl<C: Connector> Connector for Limited<C> {
    async fn send(&self, run: &NewRun) -> Result<(), SendError> {
        self.token().await;
        self.inner.send(run).await
    }

    async fn cancel(&self, run: &RunRow, principal: &str) -> Result<(), SendError> {
        self.token().await;
        self.inner.cancel(run, principal).await
    }

    async fn is_connected(&self, org_id: &str, recipient: Uuid) -> Result<bool, SendError> {
        self.token().await;
        self.inner.is_connected(org_id, recipient).await
    }

    async fn is_connected_at_once(&self, org_id: &str, recipient: Uuid) -> Result<bool, SendError> {
        self.inner.is_connected(org_id, recipient).await
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
    fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        let (per_second, burst) = (f64::from(per_second.max(1)), f64::from(burst.max(1)));
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
    use super::*;

    #[test]
    fn a_burst_passes_at_once_and_the_rest_at_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(5, 5, start);
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
        let mut bucket = Bucket::new(1, 1, start + Duration::from_secs(10));
        assert_eq!(bucket.take(start), Duration::ZERO);
        assert!(bucket.take(start) > Duration::from_millis(900));
    }
}
