//! The doorbell: a worker waits for work or a cancellation. Waiting is presence.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use dispatcher_wire::execution::{Doorbell, MAX_AT_A_TIME, MAX_WAIT_SECONDS};
use uuid::Uuid;

use super::{
    Execution, ExecutionError, hub::Look, model::Waiting, note_presence, now, presence::Presence,
};
use crate::store::{RecipientStore, StoreResult, WorkStore};

impl Execution {
    /// Waits until there is something to do for the recipient, whose worker may hold so many runs
    /// at a time (0: it takes nothing); at most this long and never longer than
    /// [`MAX_WAIT_SECONDS`]. The end of the process ends the wait at once.
    ///
    /// # Errors
    /// When the store fails as the wait begins.
    pub async fn wait(
        &self,
        recipient: Uuid,
        at_a_time: u32,
        at_most: Duration,
    ) -> Result<Doorbell, ExecutionError> {
        let at_most = at_most.min(Duration::from_secs(MAX_WAIT_SECONDS));
        let hurries = at_most.is_zero() || self.parts.shutdown.is_cancelled();
        let one = Waiting { recipient, at_a_time: at_a_time.min(MAX_AT_A_TIME) };
        let wait = self.hub.enter(one, hurries, || Arc::new(self.looking()));
        let end = async {
            tokio::select! {
                () = tokio::time::sleep(at_most) => {}
                () = self.parts.shutdown.cancelled() => {}
            }
        };
        Ok(wait.until(end).await?)
    }

    fn looking(&self) -> Looking {
        Looking {
            work: Arc::clone(&self.parts.work),
            recipients: Arc::clone(&self.parts.recipients),
            presence: Arc::clone(&self.presence),
        }
    }
}

/// What looks for everybody who waits.
struct Looking {
    work: Arc<dyn WorkStore>,
    recipients: Arc<dyn RecipientStore>,
    presence: Arc<Presence>,
}

#[async_trait]
impl Look for Looking {
    async fn look(&self, waiting: &[Waiting]) -> StoreResult<BTreeMap<Uuid, Doorbell>> {
        let ids: Vec<Uuid> = waiting.iter().map(|one| one.recipient).collect();
        let (noted, bells) = tokio::join!(
            note_presence(&*self.recipients, &self.presence, &ids),
            self.work.doorbells(waiting, now()),
        );
        noted?;
        bells
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    };

    use time::OffsetDateTime;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        bus::{Topic, Wakeups},
        config::execution::ExecutionSettings,
        execution::{Parts, model::*},
        keyring::Keyring,
        recipients::model::{Recipient, RecipientSummary},
        runs::model::Rows,
        store::StoreError,
    };

    /// A door with a bell, and nothing behind it.
    #[derive(Default)]
    struct Door {
        bell: Mutex<Doorbell>,
        looks: AtomicUsize,
        signs: AtomicUsize,
    }

    #[async_trait]
    impl WorkStore for Door {
        async fn doorbells(
            &self,
            waiting: &[Waiting],
            _: OffsetDateTime,
        ) -> StoreResult<BTreeMap<Uuid, Doorbell>> {
            self.looks.fetch_add(1, SeqCst);
            let bell = self.bell.lock().unwrap().clone();
            let rings = bell.work || !bell.cancel.is_empty();
            let all = waiting.iter().filter(|_| rings);
            Ok(all.map(|one| (one.recipient, bell.clone())).collect())
        }
        async fn claim(&self, _: &ClaimRequest) -> StoreResult<Option<ClaimedWork>> {
            Ok(None)
        }
        async fn inputs(&self, _: Hold) -> StoreResult<Option<StoredInputs>> {
            Ok(None)
        }
        async fn append(&self, _: Hold, _: &AppendBatch) -> StoreResult<AppendOutcome> {
            Err(StoreError::Unavailable("down".to_owned()))
        }
        async fn finish(&self, _: Hold, _: &Finish) -> StoreResult<FinishOutcome> {
            Ok(FinishOutcome::NotYours)
        }
    }

    #[async_trait]
    impl RecipientStore for Door {
        async fn register(&self, _: &Recipient) -> StoreResult<bool> {
            Ok(true)
        }
        async fn seen(&self, _: &[Uuid], _: OffsetDateTime) -> StoreResult<()> {
            self.signs.fetch_add(1, SeqCst);
            Ok(())
        }
        async fn find(&self, _: &[Uuid]) -> StoreResult<BTreeMap<Uuid, Recipient>> {
            Ok([].into())
        }
        async fn list(
            &self,
            _: &str,
            _: &std::collections::BTreeMap<String, String>,
            _: i64,
            _: i64,
        ) -> StoreResult<Rows<RecipientSummary>> {
            Ok(Rows { rows: Vec::new(), total: 0 })
        }
    }

    struct Case {
        door: Arc<Door>,
        wakeups: Wakeups,
        shutdown: CancellationToken,
        execution: Arc<Execution>,
        recipient: Uuid,
    }

    fn case() -> Case {
        let (door, wakeups) = (Arc::<Door>::default(), Wakeups::default());
        let shutdown = CancellationToken::new();
        let keyring = Keyring::parse(&Keyring::generate().unwrap()).unwrap();
        let execution = Execution::new(Parts {
            work: Arc::clone(&door) as Arc<dyn WorkStore>,
            recipients: Arc::clone(&door) as Arc<dyn RecipientStore>,
            wakeups: wakeups.clone(),
            keyring: Arc::new(keyring),
            public_url: "http://127.0.0.1".to_owned(),
            settings: ExecutionSettings::default(),
            shutdown: shutdown.clone(),
        });
        Case { door, wakeups, shutdown, execution, recipient: Uuid::new_v4() }
    }

    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_bell_that_rings_is_answered_at_once() {
        let case = case();
        case.door.bell.lock().unwrap().cancel.push(Uuid::nil());
        let bell = case.execution.wait(case.recipient, 1, LONG).await.unwrap();
        assert_eq!(bell.cancel, [Uuid::nil()]);
        assert_eq!(case.door.looks.load(SeqCst), 1);
    }

    #[tokio::test]
    async fn without_time_it_only_looks() {
        let case = case();
        let bell = case.execution.wait(case.recipient, 1, Duration::ZERO).await.unwrap();
        assert_eq!(bell, Doorbell::default());
        assert_eq!(case.door.looks.load(SeqCst), 1);
    }

    #[tokio::test]
    async fn a_wake_up_makes_it_look_again_and_signs_of_life_are_rare() {
        let case = case();
        let waking = async {
            while case.door.looks.load(SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
            case.door.bell.lock().unwrap().work = true;
            case.wakeups.wake(Topic::Recipient(case.recipient));
        };
        let (bell, ()) = tokio::join!(case.execution.wait(case.recipient, 1, LONG), waking);
        assert!(bell.unwrap().work);
        assert_eq!(case.door.looks.load(SeqCst), 2);
        assert_eq!(case.door.signs.load(SeqCst), 1);
    }

    #[tokio::test]
    async fn without_a_wake_up_the_database_is_asked() {
        let case = case();
        let changing = async {
            while case.door.looks.load(SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
            case.door.bell.lock().unwrap().work = true;
        };
        let (bell, ()) = tokio::join!(case.execution.wait(case.recipient, 1, LONG), changing);
        assert!(bell.unwrap().work);
    }

    #[tokio::test]
    async fn the_end_of_the_process_ends_the_wait() {
        let case = case();
        let ending = async {
            while case.door.looks.load(SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
            case.shutdown.cancel();
        };
        let (bell, ()) = tokio::join!(case.execution.wait(case.recipient, 1, LONG), ending);
        assert_eq!(bell.unwrap(), Doorbell::default());
    }
}
