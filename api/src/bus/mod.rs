//! Wake-ups between the parts of one process: a hint that something changed, never the change.
//!
//! Nobody may rely on a wake-up: whoever waits also polls (decision 5).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::sync::Notify;
use uuid::Uuid;

pub mod amqp;
pub mod broker;

/// What somebody may wait for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Topic {
    /// New output or a new state of a run.
    Run(Uuid),
    /// New work or a cancellation for a recipient.
    Recipient(Uuid),
    /// A new upload in the inbox.
    Uploads,
    /// New events for consumers.
    Events,
}

/// Wakes those who wait for a topic.
#[derive(Clone, Debug, Default)]
pub struct Wakeups {
    waiting: Arc<Mutex<HashMap<Topic, Weak<Notify>>>>,
}

impl Wakeups {
    /// Wakes everybody who waits for the topic now.
    pub fn wake(&self, topic: Topic) {
        let notify = self.lock().get(&topic).and_then(Weak::upgrade);
        if let Some(notify) = notify {
            notify.notify_waiters();
        }
    }

    /// Starts to listen. Take the listener, look at the state, then wait: a wake-up in between is
    /// not lost.
    #[must_use]
    pub fn listen(&self, topic: Topic) -> Listener {
        let mut waiting = self.lock();
        let notify = waiting.get(&topic).and_then(Weak::upgrade).unwrap_or_else(|| {
            waiting.retain(|_, notify| notify.strong_count() > 0);
            let notify = Arc::new(Notify::new());
            waiting.insert(topic, Arc::downgrade(&notify));
            notify
        });
        drop(waiting);
        Listener { woken: Box::pin(notify.notified_owned()) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Topic, Weak<Notify>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One wait for one topic.
#[derive(Debug)]
pub struct Listener {
    woken: std::pin::Pin<Box<tokio::sync::futures::OwnedNotified>>,
}

impl Listener {
    /// Waits for a wake-up since [`Wakeups::listen`], or until the time is over. `true`: woken.
    pub async fn wait(self, at_most: Duration) -> bool {
        tokio::time::timeout(at_most, self.woken).await.is_ok()
    }
}
