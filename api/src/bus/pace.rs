//! A pace: so many times a second at most, with a few at once after a rest. Pure.

use std::time::{Duration, Instant};

/// How often something may be done.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    every: Duration,
    ahead: Duration,
    /// When it would be done next if it were done evenly.
    due: Option<Instant>,
}

impl Pace {
    /// Once in this time on average, and so many times at once after a rest.
    #[must_use]
    pub fn new(every: Duration, at_once: u32) -> Self {
        Self { every, ahead: every * at_once.saturating_sub(1), due: None }
    }

    /// How long to wait from now on until it may be done.
    #[must_use]
    pub fn wait(&self, now: Instant) -> Duration {
        let due = self.due.and_then(|due| due.checked_sub(self.ahead));
        due.map_or(Duration::ZERO, |due| due.saturating_duration_since(now))
    }

    /// Notes that it was done.
    pub fn done(&mut self, now: Instant) {
        self.due = Some(self.due.map_or(now, |due| due.max(now)) + self.every);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_rest_some_at_once_and_then_evenly() {
        let every = Duration::from_millis(50);
        let (mut pace, start) = (Pace::new(every, 3), Instant::now());
        for _ in 0..3 {
            assert_eq!(pace.wait(start), Duration::ZERO);
            pace.done(start);
        }
        assert_eq!(pace.wait(start), every);
        let mut now = start;
        for _ in 0..40 {
            now += pace.wait(now);
            pace.done(now);
        }
        assert_eq!(now - start, every * 40);
        assert_eq!(pace.wait(now + every), Duration::ZERO);
    }
}
