//! Workers that proved who they are a moment ago: a request of theirs need not ask the database
//! again. What is remembered is what the database said, so every key is still compared, and what
//! the database says anew is in force everywhere within [`KNOWN_FOR`].

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use uuid::Uuid;

use super::{principal::WorkerPrincipal, worker_key};
use crate::{keyring::Keyring, recipients::model::Recipient};

/// How long an answer of the database stands.
pub const KNOWN_FOR: Duration = Duration::from_secs(1);
/// The most recipients that are remembered; more are asked for each time.
const MOST: usize = 10_000;

struct Known {
    asked_at: Instant,
    org_id: String,
    key_digest: Vec<u8>,
}

impl Known {
    fn stands(&self, at: Instant) -> bool {
        at.saturating_duration_since(self.asked_at) < KNOWN_FOR
    }
}

/// What the database said of recipients.
#[derive(Default)]
pub struct KnownWorkers {
    known: Mutex<HashMap<Uuid, Known>>,
}

impl std::fmt::Debug for KnownWorkers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KnownWorkers").field("known", &self.lock().len()).finish()
    }
}

impl KnownWorkers {
    /// The worker of this recipient, if this is the key that the database named a moment ago.
    /// `None`: the database must be asked, since the key may be a new one.
    #[must_use]
    pub fn recognised(
        &self,
        recipient: Uuid,
        key: &str,
        keyring: &Keyring,
        at: Instant,
    ) -> Option<WorkerPrincipal> {
        let (org_id, digest) = {
            let known = self.lock();
            let known = known.get(&recipient).filter(|known| known.stands(at))?;
            (known.org_id.clone(), known.key_digest.clone())
        };
        let its_key = worker_key::matches(keyring, key, Some(&digest));
        its_key.then_some(WorkerPrincipal { recipient, org_id })
    }

    /// Remembers what the database said when it was asked at this time. Whoever has no key, or is
    /// not there, is not remembered: strangers must not fill the memory.
    pub fn remember(&self, recipient: &Recipient, asked_at: Instant) {
        let Some(key_digest) = recipient.key_digest.clone() else { return };
        let mut known = self.lock();
        if known.len() >= MOST {
            known.retain(|_, known| known.stands(asked_at));
        }
        if known.len() < MOST {
            let org_id = recipient.org_id.clone();
            known.insert(recipient.id, Known { asked_at, org_id, key_digest });
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;

    fn recipient(key_digest: Option<Vec<u8>>) -> Recipient {
        Recipient {
            id: Uuid::new_v4(),
            org_id: "org".to_owned(),
            name: "name".to_owned(),
            key_digest,
            last_seen: None,
            created_at: OffsetDateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_right_key_is_recognised_for_a_second_and_no_other() {
        let keyring = Keyring::parse(&Keyring::generate().unwrap()).unwrap();
        let (known, at) = (KnownWorkers::default(), Instant::now());
        let one = recipient(keyring.digests(b"key").into_iter().next());
        let ask = |key, at| known.recognised(one.id, key, &keyring, at);
        assert_eq!(ask("key", at), None);
        known.remember(&one, at);
        let worker = WorkerPrincipal { recipient: one.id, org_id: "org".to_owned() };
        assert_eq!(ask("key", at + KNOWN_FOR / 2), Some(worker));
        assert_eq!(ask("yek", at), None);
        assert_eq!(ask("key", at + KNOWN_FOR), None);
        assert_eq!(known.recognised(Uuid::new_v4(), "key", &keyring, at), None);
    }

    #[test]
    fn the_memory_is_bounded_and_only_for_those_with_a_key() {
        let (known, at) = (KnownWorkers::default(), Instant::now());
        known.remember(&recipient(None), at);
        assert!(known.lock().is_empty());
        (0..=MOST).for_each(|_| known.remember(&recipient(Some(vec![1])), at));
        assert_eq!(known.lock().len(), MOST);
        known.remember(&recipient(Some(vec![1])), at + KNOWN_FOR);
        assert_eq!(known.lock().len(), 1);
    }
}
