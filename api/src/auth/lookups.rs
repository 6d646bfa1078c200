//! Asks the database for recipients in company: while one statement is under way, whoever else
//! wants one waits for the next, which asks for all of them. So a single worker that calls waits for
//! nobody, and thousands that come back at once cost a few statements.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;
use uuid::Uuid;

use crate::{
    recipients::model::Recipient,
    store::{RecipientStore, StoreError, StoreResult},
};

/// The most recipients of one statement.
const MOST_AT_ONCE: usize = 500;

type Answer = StoreResult<Option<Recipient>>;
type Asked = HashMap<Uuid, Vec<oneshot::Sender<Answer>>>;

#[derive(Default)]
struct Queue {
    asked: Asked,
    /// Somebody carries the questions to the database.
    is_carried: bool,
}

/// Questions for recipients.
#[derive(Clone)]
pub struct Lookups {
    recipients: Arc<dyn RecipientStore>,
    queue: Arc<Mutex<Queue>>,
}

impl std::fmt::Debug for Lookups {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lookups").field("asked", &self.lock().asked.len()).finish_non_exhaustive()
    }
}

impl Lookups {
    /// Asks this database.
    #[must_use]
    pub fn new(recipients: Arc<dyn RecipientStore>) -> Self {
        Self { recipients, queue: Arc::default() }
    }

    /// What the database says of a recipient, asked after this call.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find(&self, recipient: Uuid) -> Answer {
        let lost = || StoreError::Failed("nobody carries questions for recipients".to_owned());
        self.ask(recipient).await.unwrap_or_else(|_| Err(lost()))
    }

    fn ask(&self, recipient: Uuid) -> oneshot::Receiver<Answer> {
        let (answer, answered) = oneshot::channel();
        let mut queue = self.lock();
        queue.asked.entry(recipient).or_default().push(answer);
        if !mem::replace(&mut queue.is_carried, true) {
            tokio::spawn(self.clone().carry());
        }
        answered
    }

    /// Carries questions until there are none.
    async fn carry(self) {
        while let Some(mut asked) = self.take() {
            let ids: Vec<Uuid> = asked.keys().copied().collect();
            let found = self.recipients.find(&ids).await;
            for id in ids {
                let answer = found.as_ref().map(|found| found.get(&id).cloned());
                for who in asked.remove(&id).unwrap_or_default() {
                    // Nobody is there to be told: the caller has gone.
                    let _ = who.send(answer.clone().map_err(StoreError::clone));
                }
            }
        }
    }

    fn take(&self) -> Option<Asked> {
        let mut guard = self.lock();
        let queue = &mut *guard;
        if queue.asked.is_empty() {
            queue.is_carried = false;
            return None;
        }
        if queue.asked.len() <= MOST_AT_ONCE {
            return Some(mem::take(&mut queue.asked));
        }
        let some: Vec<Uuid> = queue.asked.keys().take(MOST_AT_ONCE).copied().collect();
        Some(some.into_iter().filter_map(|id| queue.asked.remove_entry(&id)).collect())
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
