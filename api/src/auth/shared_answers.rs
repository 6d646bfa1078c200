//! Answers of a service outside, remembered for a short time and asked for in company: whoever wants
//! one that is being asked for waits for the same. Failures are told to those who wait and are
//! remembered no longer.

use std::{
    future::Future,
    hash::Hash,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};

use super::recent::Recent;

type Asking<V, E> = Shared<BoxFuture<'static, Result<V, E>>>;
/// When something was asked, and the answer.
type Asked<V, E> = (Instant, Asking<V, E>);

/// Answers by key, of bounded number.
pub struct SharedAnswers<K, V, E> {
    /// From when an answer was asked for.
    good_for: Duration,
    known: Mutex<Recent<K, Asked<V, E>>>,
}

impl<K, V, E> SharedAnswers<K, V, E>
where
    K: Eq + Hash,
    V: Clone + Send + Sync + 'static,
    E: Clone + Send + Sync + 'static,
{
    /// Remembers about `most` answers for `good_for`.
    #[must_use]
    pub fn new(good_for: Duration, most: usize) -> Self {
        Self { good_for, known: Mutex::new(Recent::new(most.div_ceil(2))) }
    }

    /// The answer for a key, or the one that `ask` gets.
    ///
    /// # Errors
    /// Those of whoever asked, this caller or another who waits.
    pub async fn get<F>(&self, key: K, ask: impl FnOnce() -> F) -> Result<V, E>
    where
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        self.asking(key, ask).await
    }

    fn asking<F>(&self, key: K, ask: impl FnOnce() -> F) -> Asking<V, E>
    where
        F: Future<Output = Result<V, E>> + Send + 'static,
    {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some((asked, answer)) = known.get(&key) {
            let usable = match answer.peek() {
                // Under way: nobody asks twice at once.
                None => true,
                Some(Ok(_)) => now.saturating_duration_since(*asked) < self.good_for,
                Some(Err(_)) => false,
            };
            if usable {
                return answer.clone();
            }
        }
        let answer = ask().boxed().shared();
        known.put(key, (now, answer.clone()));
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use tokio::sync::Notify;

    use super::*;

    type Answers = SharedAnswers<u8, usize, &'static str>;

    #[tokio::test]
    async fn who_asks_meanwhile_waits_for_the_same() {
        let answers = Answers::new(Duration::from_secs(3600), 10);
        let (asked, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let get = || {
            let (asked, gate) = (Arc::clone(&asked), Arc::clone(&gate));
            answers.get(1, move || async move {
                let nth = asked.fetch_add(1, Ordering::SeqCst);
                gate.notified().await;
                Ok(nth)
            })
        };
        let all = futures_util::future::join3(get(), get(), get());
        let (told, ()) = tokio::join!(all, async { gate.notify_one() });
        assert_eq!(told, (Ok(0), Ok(0), Ok(0)));
        assert_eq!(get().await, Ok(0), "and later, too");
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn whoever_goes_away_takes_nothing_along() {
        let answers = Answers::new(Duration::from_secs(3600), 10);
        let gate = Arc::new(Notify::new());
        let inner = Arc::clone(&gate);
        let first = answers.asking(1, move || async move {
            inner.notified().await;
            Ok(7)
        });
        let mut second = answers.asking(1, || async { Err("asked twice") });
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(first);
        gate.notify_one();
        assert_eq!(second.await, Ok(7));
    }

    #[tokio::test]
    async fn failures_and_old_answers_are_asked_for_anew() {
        let answers = Answers::new(Duration::from_secs(3600), 10);
        assert_eq!(answers.get(1, || async { Err("away") }).await, Err("away"));
        assert_eq!(answers.get(1, || async { Ok(1) }).await, Ok(1));
        assert_eq!(answers.get(1, || async { Ok(2) }).await, Ok(1));
        assert_eq!(answers.get(2, || async { Ok(2) }).await, Ok(2));
        let none = Answers::new(Duration::ZERO, 10);
        assert_eq!(none.get(1, || async { Ok(1) }).await, Ok(1));
        assert_eq!(none.get(1, || async { Ok(2) }).await, Ok(2));
    }
}
