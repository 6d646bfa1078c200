//! Several instances over one PostgreSQL database: they wake each other at once, and do without
//! when they cannot.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use dispatcher_api::{
    bus::{
        Topic, Wakeups,
        message::{News, decode},
        remote::Remote,
    },
    store::{
        StoreError, StoreResult,
        wakeups::{Ear, WakeupStore},
    },
};
use dispatcher_tests::{
    counting::Calls,
    postgres::Database,
    process::PATIENCE,
    service::{InProcess, new_run},
    worker::{self, ScriptedWorker, printed},
};
use futures_util::{StreamExt as _, future::join_all};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const HEARS: &str = "dispatcher_wakeups_listening";

/// Two instances over one database.
async fn two(variables: &[(&str, &str)]) -> (Database, InProcess, InProcess) {
    let database = Database::migrated().await.unwrap();
    let start =
        async || InProcess::instance(database.stores().await.unwrap(), variables).await.unwrap();
    let (one, other) = (start().await, start().await);
    (database, one, other)
}

/// Polls until it is so.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !is_so().await {
        assert!(started.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn both_hear(one: &InProcess, other: &InProcess) {
    until(HEARS, async || one.app.wakeups.arrive() && other.app.wakeups.arrive()).await;
}

/// Dispatches at one instance are heard of at the other, by no way but that of wake-ups; and the
/// worker that waits there is told well before it would have been by the poll of a second. Once in
/// some: a busy machine makes each of them longer, and none shorter.
async fn dispatches_wake(one: &InProcess, other: &InProcess) {
    let mut took = Vec::new();
    while took.iter().all(|took| *took >= Duration::from_millis(700)) {
        assert!(took.len() < 10, "{took:?}");
        let worker = one.worker().await.unwrap().at(&other.url);
        let ear = other.app.wakeups.listen(Topic::Recipient(worker.recipient));
        took.push(way(one, other, &worker).await);
        assert!(ear.wait(PATIENCE).await, "nothing was heard");
    }
}

/// From a dispatch at one instance to the answer of the worker that waits at the other. The least
/// of some: a busy machine makes each of them longer, and none shorter.
async fn shortest_way(one: &InProcess, other: &InProcess) -> Duration {
    let mut shortest = PATIENCE;
    for _ in 0..5 {
        let worker = one.worker().await.unwrap().at(&other.url);
        shortest = shortest.min(way(one, other, &worker).await);
    }
    shortest
}

async fn way(one: &InProcess, other: &InProcess, worker: &ScriptedWorker) -> Duration {
    let waiting = tokio::spawn({
        let worker = worker.clone();
        async move { (worker.wait(30).await.unwrap(), Instant::now()) }
    });
    // Its first look has been, once it is seen; then let the poll of a second be far away.
    until("presence", async || {
        let found = other.app.stores.recipients.find(&[worker.recipient]).await.unwrap();
        found[&worker.recipient].last_seen.is_some()
    })
    .await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let dispatched = Instant::now();
    one.create(new_run(worker.recipient)).await.unwrap();
    let (bell, answered) = waiting.await.unwrap();
    assert!(bell.work);
    answered - dispatched
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatch_here_wakes_a_worker_that_waits_there() {
    let (_database, one, other) = two(&[]).await;
    both_hear(&one, &other).await;
    dispatches_wake(&one, &other).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn turned_off_workers_hear_of_work_by_polling() {
    let (database, one, other) = two(&[("WAKEUPS", "off")]).await;
    let took = shortest_way(&one, &other).await;
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(listeners(&database).await, Vec::<i32>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn output_there_is_shown_here() {
    let (_database, one, other) = two(&[]).await;
    both_hear(&one, &other).await;
    let worker = one.worker().await.unwrap();
    let id = one.create(new_run(worker.recipient)).await.unwrap();
    let run = worker.claimed().await.unwrap();
    worker.append(&run, 0, &[worker::start(&run)]).await.unwrap();
    let path = format!("/api/playbook-dispatcher/v1/runs/{id}/log?follow=true");
    let answer = other.request(reqwest::Method::GET, &path).send().await.unwrap();
    let mut shown = answer.error_for_status().unwrap().bytes_stream();
    let mut shortest = PATIENCE;
    for number in 1..=10 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        let ear = other.app.wakeups.listen(Topic::Run(id));
        let sent = Instant::now();
        let line = format!("line {number}");
        worker.append(&run, number, &[printed("web", &line)]).await.unwrap();
        let bytes = shown.next().await.unwrap().unwrap();
        assert_eq!(bytes, format!("{line}\n"));
        shortest = shortest.min(sent.elapsed());
        assert!(ear.wait(PATIENCE).await, "nothing was heard");
    }
    // Well before the next poll, a second after the line before.
    assert!(shortest < Duration::from_millis(800), "{shortest:?}");
}

async fn listeners(database: &Database) -> Vec<i32> {
    const LISTENERS: &str = "
        SELECT pid FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'dispatcher-api wake-ups'";
    let rows = database.client().await.unwrap().query(LISTENERS, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_was_cut_off_comes_back() {
    let (database, one, other) = two(&[]).await;
    both_hear(&one, &other).await;
    let before = listeners(&database).await;
    assert_eq!(before.len(), 2);
    let client = database.client().await.unwrap();
    client
        .execute("SELECT pg_terminate_backend(p) FROM unnest($1::int[]) p", &[&before])
        .await
        .unwrap();
    // Meanwhile everything goes on by polling.
    assert!(shortest_way(&one, &other).await < PATIENCE);
    until("new listeners", async || {
        let now = listeners(&database).await;
        now.len() == 2 && now.iter().all(|pid| !before.contains(pid))
    })
    .await;
    both_hear(&one, &other).await;
    dispatches_wake(&one, &other).await;
}

/// A way that takes everything and delivers what a test wants.
#[derive(Clone, Default)]
struct Way {
    said: Arc<Mutex<Vec<String>>>,
    delivers: bool,
    heard: Arc<tokio::sync::Notify>,
}

struct Delivered(Way, usize);

#[async_trait]
impl WakeupStore for Way {
    async fn notify(&self, message: &str) -> StoreResult<()> {
        self.said.lock().unwrap().push(message.to_owned());
        self.heard.notify_waiters();
        Ok(())
    }
    async fn listen(&self) -> StoreResult<Box<dyn Ear>> {
        Ok(Box::new(Delivered(self.clone(), 0)))
    }
}

#[async_trait]
impl Ear for Delivered {
    async fn next(&mut self) -> StoreResult<String> {
        if !self.0.delivers {
            std::future::pending::<()>().await;
        }
        loop {
            let said = self.0.said.lock().unwrap().get(self.1).cloned();
            if let Some(said) = said {
                self.1 += 1;
                return Ok(said);
            }
            let more = self.0.heard.notified();
            if self.0.said.lock().unwrap().len() <= self.1 {
                more.await;
            }
        }
    }
}

fn joined(way: &Way) -> (Wakeups, CancellationToken) {
    let (wakeups, shutdown) = (Wakeups::default(), CancellationToken::new());
    let remote = Remote::join(&wakeups, Arc::new(way.clone()));
    tokio::spawn(remote.run(shutdown.clone()));
    (wakeups, shutdown)
}

#[tokio::test]
async fn many_wake_ups_are_few_messages_and_too_many_are_named_everything() {
    let way = Way { delivers: true, ..Way::default() };
    let ((here, _a), (there, _b)) = (joined(&way), joined(&way));
    until("both hear", async || here.arrive() && there.arrive()).await;
    let one = Uuid::new_v4();
    let listener = there.listen(Topic::Run(one));
    let started = Instant::now();
    for _ in 0..2_000 {
        here.wake(Topic::Run(one));
        tokio::task::yield_now().await;
    }
    assert!(listener.wait(PATIENCE).await);
    let far = there.listen(Topic::Run(Uuid::new_v4()));
    (0..2_000).for_each(|_| here.wake(Topic::Recipient(Uuid::new_v4())));
    assert!(far.wait(PATIENCE).await, "anything may have changed");
    let said = way.said.lock().unwrap().clone();
    assert!(said.iter().all(|message| message.len() <= 7_900));
    let told = said.iter().filter(
        |message| !matches!(decode(message), Some((_, News::Of(topics))) if topics.is_empty()),
    );
    // One at once, then one in 50 ms.
    let most = 2 + started.elapsed().as_millis() / 50;
    assert!(told.count() as u128 <= most, "more than {most}: {}", said.len());
}

#[tokio::test]
async fn uploads_are_nobody_elses() {
    let way = Way { delivers: true, ..Way::default() };
    let (wakeups, _shutdown) = joined(&way);
    until("it hears", async || wakeups.arrive()).await;
    wakeups.wake(Topic::Uploads);
    let run = Uuid::new_v4();
    wakeups.wake(Topic::Run(run));
    until("it is told", async || {
        let said = way.said.lock().unwrap().clone();
        said.iter().any(|message| {
            decode(message).is_some_and(|(_, news)| news == News::Of([Topic::Run(run)].into()))
        })
    })
    .await;
}

#[tokio::test]
async fn a_way_that_delivers_nothing_is_noticed_and_tried_again() {
    let way = Way::default();
    let (wakeups, _shutdown) = joined(&way);
    until("a second hello", async || way.said.lock().unwrap().len() >= 2).await;
    assert!(!wakeups.arrive(), "a pooler that shares connections");
}

/// Neither a store that cannot be reached.
struct Nowhere;

#[async_trait]
impl WakeupStore for Nowhere {
    async fn notify(&self, _: &str) -> StoreResult<()> {
        Err(StoreError::Unavailable("gone".to_owned()))
    }
    async fn listen(&self) -> StoreResult<Box<dyn Ear>> {
        Err(StoreError::Unavailable("gone".to_owned()))
    }
}

#[tokio::test]
async fn a_database_that_is_gone_costs_no_local_wake_up() {
    let (wakeups, shutdown) = (Wakeups::default(), CancellationToken::new());
    let remote = Remote::join(&wakeups, Arc::new(Nowhere));
    tokio::spawn(remote.run(shutdown.clone()));
    for _ in 0..1_000 {
        let topic = Topic::Run(Uuid::new_v4());
        let listener = wakeups.listen(topic);
        wakeups.wake(topic);
        assert!(listener.wait(Duration::ZERO).await);
    }
    assert!(!wakeups.arrive());
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_of_those_who_wait_do_not_depend_on_their_number() {
    let mut rates = Vec::new();
    for number in [20_usize, 200] {
        let calls = Calls::default();
        let service = InProcess::start_with(&[], |stores| calls.wrap(stores)).await.unwrap();
        let workers = join_all((0..number).map(|_| service.worker())).await;
        let workers: Vec<_> = workers.into_iter().map(Result::unwrap).collect();
        let waiting: Vec<_> = workers
            .iter()
            .cloned()
            .map(|worker| tokio::spawn(async move { worker.wait(30).await.unwrap() }))
            .collect();
        until("all are seen", async || {
            let ids: Vec<_> = workers.iter().map(|worker| worker.recipient).collect();
            let found = service.app.stores.recipients.find(&ids).await.unwrap();
            found.values().all(|one| one.last_seen.is_some())
        })
        .await;
        let asked = || BTreeMap::from(["doorbells", "seen"].map(|name| (name, calls.of(name))));
        let (before, started) = (asked(), Instant::now());
        tokio::time::sleep(Duration::from_secs(6)).await;
        let seconds = started.elapsed().as_secs_f64();
        let after = asked();
        let rate = |name: &str| (after[name] - before[name]) as f64 / seconds;
        rates.push((rate("doorbells"), rate("seen")));
        waiting.iter().for_each(tokio::task::JoinHandle::abort);
    }
    for (doorbells, seen) in &rates {
        assert!((0.3..1.7).contains(doorbells), "{rates:?} a second");
        assert!(*seen <= 0.6, "{rates:?} a second");
    }
}
