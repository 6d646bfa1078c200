//! Collects last-authentication times inside a process that authenticates: one per principal, until
//! they are handed on. Noting one is a look into a map; handing on is somebody else's time.
//!
//! With Redis they go there every second, and the tracker writes them down; without it, or while it
//! has failed for as long as the interval, they go to the database directly, by the same interval
//! and threshold. What could not be handed on stays, and no time moves backwards.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use time::OffsetDateTime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    measures,
    ports::{LastAuth, LastAuthSink, PortError},
    redis::AuthRedis,
};

/// The most principals whose times are kept.
const MOST: usize = 100_000;
/// Between two looks at what there is.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// The most that handing on may take at the end of the process.
const LAST_FLUSH: Duration = Duration::from_secs(5);
/// The most times that go to the database at once.
const BATCH: usize = 500;

/// Epoch seconds by kind and id.
type Times = HashMap<&'static str, HashMap<String, i64>>;

/// Where times are handed on at once.
#[async_trait]
pub trait TimesSink: Send + Sync {
    /// Notes them; none moves backwards.
    async fn note(&self, times: &[LastAuth]) -> Result<(), PortError>;
}

#[async_trait]
impl TimesSink for AuthRedis {
    async fn note(&self, times: &[LastAuth]) -> Result<(), PortError> {
        Self::note(self, times).await
    }
}

/// When times go to the database: after so long, or when there are so many.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// After so long.
    pub interval: Duration,
    /// Or when there are so many.
    pub threshold: usize,
}

/// Where times go.
pub struct Ways {
    /// Redis, if there is one.
    pub redis: Option<Arc<dyn TimesSink>>,
    /// The database.
    pub database: Arc<dyn LastAuthSink>,
    /// When they go to the database.
    pub rule: Rule,
}

impl std::fmt::Debug for Ways {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let redis = self.redis.is_some();
        f.debug_struct("Ways").field("redis", &redis).field("rule", &self.rule).finish()
    }
}

/// What was noted and not handed on yet.
#[derive(Debug, Default)]
struct Pending {
    times: Times,
    count: usize,
}

/// Times of last authentication in this process.
#[derive(Debug, Default)]
pub struct LastAuthCollector {
    pending: Mutex<Pending>,
    full: AtomicBool,
}

impl LastAuthCollector {
    /// Notes that somebody was authenticated: `kind` is `user`, `service` or `recipient`.
    pub fn note(&self, kind: &'static str, id: &str, at: OffsetDateTime) {
        if !self.pending().put(kind, id, at.unix_timestamp()) {
            metrics::counter!("dispatcher_last_auth_dropped_total").increment(1);
            if !self.full.swap(true, Ordering::Relaxed) {
                tracing::warn!(
                    most = MOST,
                    "times of last authentication cannot be handed on, and there are too many to \
                     keep; those of further principals are lost"
                );
            }
        }
    }

    /// How many principals have a time that is not handed on.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pending().count
    }

    /// Whether everything is handed on.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Hands on until the process ends, and once more then.
    pub async fn run(&self, ways: Ways, shutdown: CancellationToken) {
        measures::describe_collector();
        let mut handed_on = Instant::now();
        while shutdown.run_until_cancelled(tokio::time::sleep(FLUSH_EVERY)).await.is_some() {
            self.hand_on(&ways, &mut handed_on).await;
        }
        if tokio::time::timeout(LAST_FLUSH, self.hand_on_everything(&ways)).await.is_err() {
            tracing::warn!("some times of last authentication could not be handed on");
        }
    }

    /// Hands on what is due. What is in the hands of a dropped future comes back.
    async fn hand_on(&self, ways: &Ways, handed_on: &mut Instant) {
        let count = self.len();
        if count == 0 {
            *handed_on = Instant::now();
            return;
        }
        if let Some(redis) = &ways.redis
            && self.flush(|times| async move { redis.note(&times).await }).await
        {
            *handed_on = Instant::now();
        }
        let due = handed_on.elapsed() >= ways.rule.interval;
        let many = ways.redis.is_none() && count >= ways.rule.threshold;
        if due || many {
            self.write(ways).await;
            // Where it failed, not again at once.
            *handed_on = Instant::now();
        }
    }

    async fn hand_on_everything(&self, ways: &Ways) {
        if let Some(redis) = &ways.redis
            && self.flush(|times| async move { redis.note(&times).await }).await
        {
            return;
        }
        self.write(ways).await;
    }

    async fn write(&self, ways: &Ways) {
        self.flush(|times| async move {
            for batch in times.chunks(BATCH) {
                ways.database.note(batch).await?;
            }
            Ok(())
        })
        .await;
    }

    /// Takes everything and hands it on; whether that worked. What did not comes back.
    async fn flush<F>(&self, hand_on: impl FnOnce(Vec<LastAuth>) -> F) -> bool
    where
        F: Future<Output = Result<(), PortError>>,
    {
        let taken = std::mem::take(&mut *self.pending());
        let mut taken = Taken { from: self, pending: taken };
        if taken.pending.count == 0 {
            return true;
        }
        match hand_on(taken.times()).await {
            Ok(()) => {
                taken.pending = Pending::default();
                self.full.store(false, Ordering::Relaxed);
                true
            }
            Err(error) => {
                tracing::warn!(%error, "times of last authentication were not handed on; they are \
                                        kept");
                false
            }
        }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    /// Notes a time; `false`: there is no room.
    fn put(&mut self, kind: &'static str, id: &str, at: i64) -> bool {
        let times = self.times.entry(kind).or_default();
        if let Some(known) = times.get_mut(id) {
            *known = at.max(*known);
            return true;
        }
        if self.count >= MOST {
            return false;
        }
        times.insert(id.to_owned(), at);
        self.count += 1;
        true
    }
}

/// What is being handed on. Whatever is left of it comes back, also when nobody waits any more.
struct Taken<'a> {
    from: &'a LastAuthCollector,
    pending: Pending,
}

impl Taken<'_> {
    fn times(&self) -> Vec<LastAuth> {
        let times = self.pending.times.iter().flat_map(|(kind, times)| {
            times.iter().filter_map(|(id, at)| {
                let at = OffsetDateTime::from_unix_timestamp(*at).ok()?;
                Some(LastAuth { kind: (*kind).to_owned(), id: id.clone(), at })
            })
        });
        times.collect()
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut pending = self.from.pending();
        for (kind, times) in self.pending.times.drain() {
            for (id, at) in times {
                pending.put(kind, &id, at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(second).unwrap()
    }

    /// Fails as long as it is told to, and remembers the newest time of each.
    #[derive(Default)]
    struct Sink {
        down: AtomicBool,
        times: Mutex<HashMap<(String, String), OffsetDateTime>>,
        calls: Mutex<usize>,
    }

    impl Sink {
        fn take(&self, times: &[LastAuth]) -> Result<(), PortError> {
            *self.calls.lock().unwrap() += 1;
            if self.down.load(Ordering::Relaxed) {
                return Err(PortError("down".to_owned()));
            }
            let mut known = self.times.lock().unwrap();
            for time in times {
                let entry = known.entry((time.kind.clone(), time.id.clone())).or_insert(time.at);
                *entry = time.at.max(*entry);
            }
            Ok(())
        }

        fn of(&self, kind: &str, id: &str) -> Option<OffsetDateTime> {
            self.times.lock().unwrap().get(&(kind.to_owned(), id.to_owned())).copied()
        }
    }

    #[async_trait]
    impl TimesSink for Sink {
        async fn note(&self, times: &[LastAuth]) -> Result<(), PortError> {
            self.take(times)
        }
    }

    #[async_trait]
    impl LastAuthSink for Sink {
        async fn note(&self, times: &[LastAuth]) -> Result<(), PortError> {
            self.take(times)
        }
    }

    struct Running {
        collector: Arc<LastAuthCollector>,
        redis: Arc<Sink>,
        database: Arc<Sink>,
        shutdown: CancellationToken,
        task: tokio::task::JoinHandle<()>,
    }

    fn running(with_redis: bool) -> Running {
        let (redis, database) = (Arc::new(Sink::default()), Arc::new(Sink::default()));
        let collector = Arc::new(LastAuthCollector::default());
        let shutdown = CancellationToken::new();
        let ways = Ways {
            redis: with_redis.then(|| redis.clone() as Arc<dyn TimesSink>),
            database: database.clone(),
            rule: Rule { interval: Duration::from_secs(30), threshold: 10 },
        };
        let (own, ending) = (Arc::clone(&collector), shutdown.clone());
        let task = tokio::spawn(async move { own.run(ways, ending).await });
        Running { collector, redis, database, shutdown, task }
    }

    async fn pass(seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn times_go_to_redis_within_two_seconds_once_per_principal() {
        let running = running(true);
        for second in [5, 9, 7] {
            running.collector.note("user", "a", at(second));
        }
        running.collector.note("service", "a", at(1));
        pass(2).await;
        assert_eq!(running.redis.of("user", "a"), Some(at(9)));
        assert_eq!(running.redis.of("service", "a"), Some(at(1)));
        assert_eq!(*running.redis.calls.lock().unwrap(), 1);
        assert!(running.collector.is_empty() && running.database.of("user", "a").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn without_redis_interval_and_threshold_decide() {
        let running = running(false);
        running.collector.note("user", "a", at(5));
        pass(25).await;
        assert_eq!(running.database.of("user", "a"), None);
        pass(10).await;
        assert_eq!(running.database.of("user", "a"), Some(at(5)));
        for number in 0..10 {
            running.collector.note("user", &number.to_string(), at(6));
        }
        pass(2).await;
        assert_eq!(running.database.of("user", "9"), Some(at(6)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_redis_that_fails_for_long_is_passed_by_and_nothing_moves_backwards() {
        let running = running(true);
        running.redis.down.store(true, Ordering::Relaxed);
        running.collector.note("user", "a", at(9));
        pass(5).await;
        running.collector.note("user", "a", at(3));
        assert_eq!(running.collector.len(), 1);
        pass(40).await;
        assert_eq!(running.database.of("user", "a"), Some(at(9)));
        assert!(running.collector.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_process_loses_nothing() {
        for with_redis in [true, false] {
            let running = running(with_redis);
            running.collector.note("recipient", "r", at(4));
            running.shutdown.cancel();
            running.task.await.unwrap();
            let sink = if with_redis { &running.redis } else { &running.database };
            assert_eq!(sink.of("recipient", "r"), Some(at(4)));
        }
    }

    #[tokio::test]
    async fn whoever_is_dropped_in_the_middle_gives_back() {
        let collector = LastAuthCollector::default();
        collector.note("user", "a", at(5));
        let mut flush = Box::pin(collector.flush(|_| std::future::pending()));
        tokio::select! { biased; _ = &mut flush => {}, () = std::future::ready(()) => {} }
        collector.note("user", "a", at(3));
        drop(flush);
        assert_eq!(collector.pending().times["user"]["a"], 5);
        assert_eq!(collector.len(), 1);
    }

    #[test]
    fn there_is_an_end_to_what_is_kept() {
        let collector = LastAuthCollector::default();
        for number in 0..=MOST {
            collector.note("user", &number.to_string(), at(1));
        }
        assert_eq!(collector.len(), MOST);
        collector.note("user", "0", at(2));
        assert_eq!(collector.pending().times["user"]["0"], 2);
    }
}
