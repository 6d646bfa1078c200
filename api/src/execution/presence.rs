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
/// Where one is written, those go along that stand for longer than this: one statement for all.
const GOES_ALONG: Duration = Duration::from_millis(2_500);
/// From this many recipients on, those that are due are forgotten before some are added.
const PRUNE_FROM: usize = 1024;

/// When each recipient's sign of life was last written by this process.
#[derive(Debug, Default)]
pub struct Presence {
    noted: Mutex<Noted>,
}

#[derive(Debug, Default)]
struct Noted {
    at: HashMap<Uuid, Instant>,
    /// How many there were after the last were forgotten.
    kept: usize,
}

impl Presence {
    /// Those of whom a sign of life at this time is to be written: none while nobody's is due.
    #[must_use]
    pub fn due(&self, recipients: impl Iterator<Item = Uuid>, at: Instant) -> Vec<Uuid> {
        let noted = self.lock();
        let mut any = false;
        let mut older = |recipient: &Uuid| {
            let age = noted.at.get(recipient).map(|noted| at.saturating_duration_since(*noted));
            any |= age.is_none_or(|age| age >= SEEN_EVERY);
            age.is_none_or(|age| age >= GOES_ALONG)
        };
        let due: Vec<Uuid> = recipients.filter(|recipient| older(recipient)).collect();
        if any { due } else { Vec::new() }
    }

    /// Notes that theirs were written.
    pub fn noted(&self, recipients: &[Uuid], at: Instant) {
        let mut guard = self.lock();
        let noted = &mut *guard;
        if noted.at.len() >= PRUNE_FROM.max(noted.kept * 2) {
            noted.at.retain(|_, noted| at.saturating_duration_since(*noted) < SEEN_EVERY);
            noted.kept = noted.at.len();
        }
        noted.at.extend(recipients.iter().map(|recipient| (*recipient, at)));
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sign_in_five_seconds_per_recipient_is_written() {
        let (presence, at, one) = (Presence::default(), Instant::now(), Uuid::new_v4());
        let due = |all: &[Uuid], at| presence.due(all.iter().copied(), at);
        assert_eq!(due(&[one], at), [one]);
        presence.noted(&[one], at);
        assert_eq!(due(&[one], at + SEEN_EVERY / 2), Vec::<Uuid>::new());
        let other = Uuid::new_v4();
        assert_eq!(due(&[one, other], at + GOES_ALONG / 2), [other]);
        assert_eq!(due(&[one], at + SEEN_EVERY), [one]);
    }

    #[test]
    fn whoever_is_soon_due_goes_along() {
        let (presence, at) = (Presence::default(), Instant::now());
        let [first, second, third] = [(); 3].map(|()| Uuid::new_v4());
        presence.noted(&[first], at);
        presence.noted(&[second], at + SEEN_EVERY - GOES_ALONG);
        presence.noted(&[third], at + SEEN_EVERY);
        let due = presence.due([first, second, third].into_iter(), at + SEEN_EVERY);
        assert_eq!(due, [first, second]);
    }

    #[test]
    fn recipients_that_went_away_are_forgotten() {
        let (presence, at) = (Presence::default(), Instant::now());
        let many: Vec<_> = (0..PRUNE_FROM).map(|_| Uuid::new_v4()).collect();
        presence.noted(&many, at);
        presence.noted(&[Uuid::new_v4()], at + SEEN_EVERY);
        assert_eq!(presence.lock().at.len(), 1);
    }
}
