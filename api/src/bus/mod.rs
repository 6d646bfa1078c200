//! Wake-ups between the parts of one process, and between processes: a hint that something changed,
//! never the change.
//!
//! Nobody may rely on a wake-up: whoever waits also polls (decision 5).

pub mod amqp;
pub mod broker;
pub mod message;
mod outgoing;
pub mod pace;
pub mod remote;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;
use uuid::Uuid;

use message::News;
use outgoing::Outgoing;

/// What somebody may wait for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Topic {
    /// New output or a new state of a run.
    Run(Uuid),
    /// New work or a cancellation for a recipient.
    Recipient(Uuid),
    /// A new upload in the inbox. Stays in the process: the others would only find it taken.
    Uploads,
    /// New events for consumers.
    Events,
}

/// Somebody who waits for many recipients at once.
pub trait RecipientWatch: Send + Sync {
    /// A recipient was woken; `None`: any may have been.
    fn woken(&self, recipient: Option<Uuid>);
}

/// Wakes those who wait for a topic.
#[derive(Clone, Default)]
pub struct Wakeups(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<HashMap<Topic, Weak<Notify>>>,
    recipients: OnceLock<Arc<dyn RecipientWatch>>,
    /// For other instances, where there are any to tell.
    outgoing: OnceLock<Arc<Outgoing>>,
    /// Wake-ups of other instances do not arrive at present.
    is_deaf: AtomicBool,
}

impl std::fmt::Debug for Wakeups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wakeups").field("topics", &self.lock().len()).finish_non_exhaustive()
    }
}

impl Wakeups {
    /// Wakes everybody who waits for the topic now, here and in other instances.
    pub fn wake(&self, topic: Topic) {
        self.wake_here(topic);
        if let Some(outgoing) = self.0.outgoing.get()
            && topic != Topic::Uploads
        {
            outgoing.add(topic);
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

    /// From now on tells this one of recipients that are woken. The first one stays.
    pub fn watch_recipients(&self, watch: Arc<dyn RecipientWatch>) {
        // There is one for the whole process; a second would be a mistake without consequence.
        let _ = self.0.recipients.set(watch);
    }

    /// Whether every wake-up arrives here, as far as anybody can know: `false` while those of other
    /// instances do not.
    #[must_use]
    pub fn arrive(&self) -> bool {
        !self.0.is_deaf.load(Ordering::Relaxed)
    }

    fn wake_here(&self, topic: Topic) {
        if let (Topic::Recipient(recipient), Some(watch)) = (topic, self.0.recipients.get()) {
            watch.woken(Some(recipient));
        }
        let notify = self.lock().get(&topic).and_then(Weak::upgrade);
        if let Some(notify) = notify {
            notify.notify_waiters();
        }
    }

    /// Wakes those whom another instance's news concern.
    fn hear(&self, news: News) {
        match news {
            News::Of(topics) => topics.into_iter().for_each(|topic| self.wake_here(topic)),
            News::Everything => {
                if let Some(watch) = self.0.recipients.get() {
                    watch.woken(None);
                }
                let all: Vec<_> = self.lock().values().filter_map(Weak::upgrade).collect();
                all.iter().for_each(|notify| notify.notify_waiters());
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Topic, Weak<Notify>>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
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
