//! What other instances are still to be told: a bounded set of topics, emptied by one sender.

use std::{
    collections::HashSet,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::{
    Topic,
    message::{MAX_TOPICS, News},
};

/// Topics that wait for the sender.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    waiting: Mutex<Waiting>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    topics: HashSet<Topic>,
    too_many: bool,
    /// How many wake-ups are in there.
    wakes: u64,
}

impl Outgoing {
    /// Adds a topic.
    pub(super) fn add(&self, topic: Topic) {
        let mut waiting = self.lock();
        waiting.wakes += 1;
        if waiting.topics.len() < MAX_TOPICS || waiting.topics.contains(&topic) {
            waiting.topics.insert(topic);
        } else {
            waiting.too_many = true;
        }
        drop(waiting);
        self.more.notify_one();
    }

    /// Waits until there is something.
    pub(super) async fn something(&self) {
        while self.lock().wakes == 0 {
            self.more.notified().await;
        }
    }

    /// Everything there is, and how many wake-ups that was.
    pub(super) fn take(&self) -> (News, u64) {
        let Waiting { topics, too_many, wakes } = mem::take(&mut *self.lock());
        (if too_many { News::Everything } else { News::Of(topics) }, wakes)
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_topic_is_told_once_and_too_many_become_everything() {
        let outgoing = Outgoing::default();
        let topic = Topic::Run(Uuid::new_v4());
        (0..5).for_each(|_| outgoing.add(topic));
        assert_eq!(outgoing.take(), (News::Of([topic].into()), 5));
        assert_eq!(outgoing.take(), (News::Of([].into()), 0));
        (0..=MAX_TOPICS).for_each(|_| outgoing.add(Topic::Run(Uuid::new_v4())));
        assert_eq!(outgoing.take(), (News::Everything, MAX_TOPICS as u64 + 1));
        assert_eq!(outgoing.take(), (News::Of([].into()), 0));
    }
}
