//! One look for everybody who waits: the workers that wait at this instance share the statements
//! that ask for their bells, whatever their number.
//!
//! Whoever begins to wait is looked at at once and answered in any case if that look fails or it has
//! no time; after that it is answered only when its bell rings. Everybody is looked at once a
//! second, and whoever is woken sooner. Looks have a pace, so that many who come, or are woken, at
//! once are one look. The task that looks lives while somebody waits.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use dispatcher_wire::execution::Doorbell;
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

use super::model::Waiting;
use crate::{
    bus::{RecipientWatch, pace::Pace},
    store::{StoreError, StoreResult},
};

/// How often the database is asked for everybody: wake-ups are hints, this is the truth.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it is asked at most on average, whoever comes or is woken.
const PACE: Duration = Duration::from_millis(50);
/// How often at once after a rest, so that nobody waits for the pace while there is little to do.
const AT_ONCE: u32 = 4;
/// The most recipients of one statement.
const MOST_AT_ONCE: usize = 5_000;
/// How many workers wait here.
const WAITING: &str = "dispatcher_workers_waiting";

/// What is asked when the hub looks.
#[async_trait]
pub(super) trait Look: Send + Sync {
    /// The bells that ring; notes the presence of those who wait, where that is due.
    async fn look(&self, waiting: &[Waiting]) -> StoreResult<BTreeMap<Uuid, Doorbell>>;
}

type Answer = StoreResult<Doorbell>;

/// One worker's wait.
struct Waiter {
    number: u64,
    at_a_time: u32,
    /// Whether a look has begun since it came.
    taken: bool,
    /// Whether one has found nothing since.
    looked: bool,
    /// Whether it is answered even if nothing rings.
    hurries: bool,
    answer: oneshot::Sender<Answer>,
}

impl Waiter {
    /// Tells it what a look found. Back it comes if it waits on: a failure that comes later than
    /// the first look is none of its concern, since it could only come again.
    fn told(mut self, bell: Result<Option<&Doorbell>, &StoreError>) -> Option<Self> {
        let answers = match bell {
            Ok(Some(_)) => true,
            Ok(None) => self.hurries && self.taken,
            Err(_) => self.taken && (self.hurries || !self.looked),
        };
        if answers {
            // Nobody is there to be told: the worker has gone.
            let _ = self.answer.send(match bell {
                Ok(bell) => Ok(bell.cloned().unwrap_or_default()),
                Err(error) => Err(error.clone()),
            });
            return None;
        }
        self.looked |= self.taken && bell.is_ok();
        Some(self)
    }
}

#[derive(Default)]
struct State {
    waiters: HashMap<Uuid, Vec<Waiter>>,
    /// Whose bell is to be looked at now.
    due: HashSet<Uuid>,
    /// How many wait.
    count: usize,
    last_number: u64,
    is_looking: bool,
}

/// Everybody who waits here.
#[derive(Default)]
pub(super) struct Hub {
    state: Mutex<State>,
    news: Notify,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("waiting", &self.lock().count).finish_non_exhaustive()
    }
}

impl RecipientWatch for Hub {
    fn woken(&self, recipient: Option<Uuid>) {
        let mut guard = self.lock();
        let state = &mut *guard;
        match recipient {
            Some(one) if state.waiters.contains_key(&one) => drop(state.due.insert(one)),
            Some(_) => return,
            None => state.due.extend(state.waiters.keys()),
        }
        drop(guard);
        self.news.notify_one();
    }
}

impl Hub {
    /// Begins to wait. With `hurries`, the first look answers, whatever it finds. Where nobody waits
    /// yet, `look` says how to look.
    pub(super) fn enter(
        self: &Arc<Self>,
        one: Waiting,
        hurries: bool,
        look: impl FnOnce() -> Arc<dyn Look>,
    ) -> Wait {
        let (answer, answered) = oneshot::channel();
        let Waiting { recipient, at_a_time } = one;
        let mut state = self.lock();
        state.last_number += 1;
        state.count += 1;
        let number = state.last_number;
        let waiter = Waiter { number, at_a_time, taken: false, looked: false, hurries, answer };
        state.waiters.entry(recipient).or_default().push(waiter);
        state.due.insert(recipient);
        if !mem::replace(&mut state.is_looking, true) {
            tokio::spawn(Arc::clone(self).keep_looking(look()));
        }
        metrics::gauge!(WAITING).set(state.count as f64);
        drop(state);
        self.news.notify_one();
        Wait { hub: Arc::clone(self), recipient, number, answered }
    }

    /// Looks while somebody waits.
    async fn keep_looking(self: Arc<Self>, look: Arc<dyn Look>) {
        let mut pace = Pace::new(PACE, AT_ONCE);
        let mut failing = false;
        let mut everybody = tokio::time::Instant::now() + LOOK_EVERY;
        loop {
            tokio::select! {
                () = self.news.notified() => {}
                () = tokio::time::sleep_until(everybody) => {
                    everybody = tokio::time::Instant::now() + LOOK_EVERY;
                    self.woken(None);
                }
            }
            tokio::time::sleep(pace.wait(Instant::now())).await;
            let Some(due) = self.take_due() else { return };
            for some in due.chunks(MOST_AT_ONCE) {
                let bells = look.look(some).await;
                pace.done(Instant::now());
                self.answer(some, &bells);
                if let (Err(error), false) = (&bells, failing) {
                    tracing::warn!(%error, "workers that wait are not told of work; they wait on");
                }
                failing = bells.is_err();
            }
        }
    }

    /// Whom to look for; `None`: nobody waits any more, and nobody looks from now on.
    fn take_due(&self) -> Option<Vec<Waiting>> {
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.waiters.is_empty() {
            state.is_looking = false;
            return None;
        }
        let due = mem::take(&mut state.due).into_iter();
        let waiting = due.filter_map(|recipient| {
            let waiters = state.waiters.get_mut(&recipient)?;
            waiters.iter_mut().for_each(|waiter| waiter.taken = true);
            let at_a_time = waiters.iter().map(|waiter| waiter.at_a_time).max()?;
            Some(Waiting { recipient, at_a_time })
        });
        Some(waiting.collect())
    }

    /// Answers those whose bell rings, and those who are not to wait longer.
    fn answer(&self, looked_for: &[Waiting], bells: &StoreResult<BTreeMap<Uuid, Doorbell>>) {
        let mut guard = self.lock();
        let state = &mut *guard;
        for Waiting { recipient, .. } in looked_for {
            let bell = bells.as_ref().map(|bells| bells.get(recipient));
            let Some(waiters) = state.waiters.remove(recipient) else { continue };
            let before = waiters.len();
            let left: Vec<_> = waiters.into_iter().filter_map(|one| one.told(bell)).collect();
            state.count -= before - left.len();
            if !left.is_empty() {
                state.waiters.insert(*recipient, left);
            }
        }
        metrics::gauge!(WAITING).set(state.count as f64);
    }

    /// A wait is to end. `false`: it is answered by the look that is still to come, or has been.
    fn hurry(&self, recipient: Uuid, number: u64) -> bool {
        let mut state = self.lock();
        let waiters = state.waiters.get_mut(&recipient);
        let waiter = waiters.and_then(|all| all.iter_mut().find(|one| one.number == number));
        let Some(waiter) = waiter else { return false };
        waiter.hurries = true;
        waiter.looked
    }

    fn leave(&self, recipient: Uuid, number: u64) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(waiters) = state.waiters.get_mut(&recipient) else { return };
        let before = waiters.len();
        waiters.retain(|waiter| waiter.number != number);
        state.count -= before - waiters.len();
        if waiters.is_empty() {
            state.waiters.remove(&recipient);
            state.due.remove(&recipient);
        }
        metrics::gauge!(WAITING).set(state.count as f64);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A wait under way; dropped, it is over.
pub(super) struct Wait {
    hub: Arc<Hub>,
    recipient: Uuid,
    number: u64,
    answered: oneshot::Receiver<Answer>,
}

impl Wait {
    /// Waits until the bell rings, or the end comes; then nothing rings, unless nobody has looked
    /// yet: a wait has one look at least.
    pub(super) async fn until(mut self, end: impl Future<Output = ()>) -> Answer {
        tokio::select! {
            biased;
            answer = &mut self.answered => return unlost(answer),
            () = end => {}
        }
        if self.hub.hurry(self.recipient, self.number) {
            return Ok(Doorbell::default());
        }
        unlost((&mut self.answered).await)
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.hub.leave(self.recipient, self.number);
    }
}

fn unlost(answer: Result<Answer, oneshot::error::RecvError>) -> Answer {
    answer.unwrap_or_else(|_| Err(StoreError::Failed("nobody looks for work any more".to_owned())))
}
