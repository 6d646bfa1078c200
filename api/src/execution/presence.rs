//! How often a recipient's sign of life is written: signs come with every request, and the database
//! needs one in a while.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use uuid::Uuid;

/// How long a sign of life that was written stands for those after it.
pub const SEEN_EVERY: Duration = Duration::from_secs(5);
/// From this many recipients on, those that are due are forgotten before one is added.
const PRUNE_FROM: usize = 1024;

/// When each recipient's sign of life was last written by this process.
#[derive(Debug, Default)]
pub struct Presence {
    noted: Mutex<HashMap<Uuid, Instant>>,
}

impl Presence {
    /// Whether a sign of life at this time is to be written.
    #[must_use]
    pub fn is_due(&self, recipient: Uuid, at: Instant) -> bool {
        self.lock().get(&recipient).is_none_or(|noted| due(*noted, at))
    }

    /// Notes that it was written.
    pub fn noted(&self, recipient: Uuid, at: Instant) {
        let mut noted = self.lock();
        if noted.len() >= PRUNE_FROM {
            noted.retain(|_, noted| !due(*noted, at));
        }
        noted.insert(recipient, at);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Instant>> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn due(noted: Instant, at: Instant) -> bool {
    at.saturating_duration_since(noted) >= SEEN_EVERY
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sign_in_five_seconds_per_recipient_is_written() {
        let (presence, at, one) = (Presence::default(), Instant::now(), Uuid::new_v4());
        assert!(presence.is_due(one, at));
        presence.noted(one, at);
        assert!(!presence.is_due(one, at + SEEN_EVERY / 2));
        assert!(presence.is_due(Uuid::new_v4(), at));
        assert!(presence.is_due(one, at + SEEN_EVERY));
    }

    #[test]
    fn recipients_that_went_away_are_forgotten() {
        let (presence, at) = (Presence::default(), Instant::now());
        (0..PRUNE_FROM).for_each(|_| presence.noted(Uuid::new_v4(), at));
        presence.noted(Uuid::new_v4(), at + SEEN_EVERY);
        assert_eq!(presence.lock().len(), 1);
    }
}
