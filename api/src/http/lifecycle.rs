//! Where a process is in its life, as its probes show it.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Shared by the server, which ends, and the routes, which say so.
#[derive(Debug, Default)]
pub struct Lifecycle {
    draining: CancellationToken,
    /// After how many requests it has served enough.
    most: Option<u64>,
    served: AtomicU64,
    enough: CancellationToken,
}

impl Lifecycle {
    /// Of a process that serves so many requests, and up to so many more: how many is drawn here.
    #[must_use]
    pub fn of_requests(most: Option<u64>, jitter: u64) -> Self {
        let (random, _) = Uuid::new_v4().as_u64_pair();
        let more = jitter.checked_add(1).map_or(random, |numbers| random % numbers);
        Self { most: most.map(|most| most.saturating_add(more)), ..Self::default() }
    }

    /// After how many requests it ends by itself.
    #[must_use]
    pub const fn most(&self) -> Option<u64> {
        self.most
    }

    /// A request was answered.
    pub fn served_one(&self) {
        let served = self.served.fetch_add(1, Ordering::Relaxed) + 1;
        if self.most.is_some_and(|most| served >= most) {
            self.enough.cancel();
        }
    }

    /// Waits until it has served as many requests as it may.
    pub async fn served_enough(&self) {
        self.enough.cancelled().await;
    }

    /// From now on health fails and connections are not kept open.
    pub fn start_draining(&self) {
        self.draining.cancel();
    }

    /// Whether the process is about to end.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Cancelled when the process begins to end.
    #[must_use]
    pub fn draining(&self) -> CancellationToken {
        self.draining.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn enough_is_drawn_between_the_number_and_the_jitter() {
        let drawn: Vec<_> = (0..200).map(|_| Lifecycle::of_requests(Some(10), 2).most()).collect();
        for expected in 10..=12 {
            assert!(drawn.contains(&Some(expected)), "{drawn:?}");
        }
        assert!(drawn.iter().all(|most| (10..=12).contains(&most.unwrap())));
        let life = Lifecycle::of_requests(Some(2), 0);
        life.served_one();
        assert!(!life.enough.is_cancelled());
        life.served_one();
        life.served_enough().await;
        let endless = Lifecycle::of_requests(None, 5);
        (0..100).for_each(|_| endless.served_one());
        assert!(!endless.enough.is_cancelled());
    }
}
