//! How long to wait before trying again: longer each time, and never in step with others.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);
/// Where only a person can help.
const SLOW: Duration = Duration::from_secs(30);

/// Waiting times between attempts.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The next waiting time: between half and all of a span that doubles up to ten seconds.
    pub(crate) fn next_delay(&mut self) -> Duration {
        let span = FIRST.saturating_mul(1 << self.attempts.min(6)).min(LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        spread(span)
    }

    /// Waits for the next waiting time.
    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(self.next_delay()).await;
    }

    /// Waits for long, where only a person can help.
    pub(crate) async fn slow_pause(&mut self) {
        tokio::time::sleep(spread(SLOW)).await;
    }

    /// Begins anew, after a success.
    pub(crate) const fn reset(&mut self) {
        self.attempts = 0;
    }
}

/// Somewhere between half and all of a span, so that many that wait do not come back together.
pub(crate) fn spread(span: Duration) -> Duration {
    let noise = uuid::Uuid::new_v4().as_u128() % 1000;
    let share = u32::try_from(noise).unwrap_or_default();
    span / 2 + span / 2000 * share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_a_bound_and_stay_within_it() {
        let mut backoff = Backoff::default();
        let delays: Vec<_> = (0..20).map(|_| backoff.next_delay()).collect();
        assert!(delays[0] >= FIRST / 2 && delays[0] <= FIRST);
        assert!(delays.iter().all(|delay| *delay <= LONGEST));
        assert!(delays[19] >= LONGEST / 2);
        backoff.reset();
        assert!(backoff.next_delay() <= FIRST);
    }
}
