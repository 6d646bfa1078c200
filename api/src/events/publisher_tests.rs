//! The publisher against a broker and an outbox of the test's own: order, refusals, lost rights.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use auth_tracker::ports::PortError;
use serde_json::json;

use super::*;
use crate::{
    config::source::Source,
    events::{
        message::{Header, Message},
        model::{Entity, Place, ReadFilter, ReadPage, Stdout},
    },
    store::StoreResult,
};

/// An outbox in memory; marks only under its epoch.
#[derive(Default)]
struct Outbox {
    rows: Mutex<Vec<(StoredEvent, bool)>>,
    epoch: i64,
}

#[async_trait]
impl EventStore for Outbox {
    async fn unpublished(&self, size: BatchSize) -> StoreResult<Vec<StoredEvent>> {
        let most = usize::try_from(size.events).unwrap();
        let rows = self.rows.lock().unwrap();
        Ok(rows.iter().filter(|row| !row.1).take(most).map(|row| row.0.clone()).collect())
    }

    async fn mark_published(
        &self,
        ids: &[i64],
        fence: Fence,
        _: OffsetDateTime,
    ) -> StoreResult<bool> {
        if fence.epoch != self.epoch {
            return Ok(false);
        }
        for row in self.rows.lock().unwrap().iter_mut().filter(|row| ids.contains(&row.0.id)) {
            row.1 = true;
        }
        Ok(true)
    }

    async fn backlog(&self, _: OffsetDateTime) -> StoreResult<Backlog> {
        Ok(Backlog::default())
    }

    async fn write_reads(
        &self,
        _: &ReadFilter,
        _: Option<Place>,
        _: i64,
        _: OffsetDateTime,
    ) -> StoreResult<ReadPage> {
        Ok(ReadPage::default())
    }
}

/// Gives the lease under one epoch, or to another.
struct Held(Option<i64>);

#[async_trait]
impl Leases for Held {
    async fn hold(
        &self,
        _: &str,
        _: Uuid,
        _: &str,
        _: Duration,
    ) -> Result<Option<Lease>, PortError> {
        Ok(self.0.map(|epoch| Lease { epoch }))
    }

    async fn release(&self, _: &str, _: Uuid) -> Result<(), PortError> {
        Ok(())
    }
}

/// Takes messages, one run at a time; refuses what it is told to, once.
#[derive(Default)]
struct Exchange {
    taken: Mutex<Vec<(Uuid, i64)>>,
    refuse_once: Mutex<Vec<(Uuid, i64)>>,
    under_way: Mutex<Vec<Uuid>>,
    most_under_way: Mutex<usize>,
    down: AtomicBool,
}

#[derive(Clone, Default)]
struct Fake(Arc<Exchange>);

#[async_trait]
impl Broker for Fake {
    async fn open(&self) -> Result<Arc<dyn Line>, BrokerError> {
        if self.0.down.load(Ordering::SeqCst) {
            return Err(BrokerError("it is down".to_owned()));
        }
        Ok(Arc::new(self.clone()))
    }
}

fn place(message: &Message) -> (Uuid, i64) {
    let header = |name| message.headers.iter().find(|(known, _)| *known == name).unwrap().1.clone();
    match (header("run_id"), header("run_seq")) {
        (Header::Text(run), Header::Number(number)) => (run.parse().unwrap(), number),
        other => panic!("{other:?}"),
    }
}

#[async_trait]
impl Line for Fake {
    async fn publish(&self, message: &Message) -> Result<(), BrokerError> {
        let (run, number) = place(message);
        {
            let mut under_way = self.0.under_way.lock().unwrap();
            assert!(!under_way.contains(&run), "two messages of a run are under way");
            under_way.push(run);
            let mut most = self.0.most_under_way.lock().unwrap();
            *most = under_way.len().max(*most);
        }
        tokio::task::yield_now().await;
        self.0.under_way.lock().unwrap().retain(|other| *other != run);
        let mut refused = self.0.refuse_once.lock().unwrap();
        if let Some(at) = refused.iter().position(|one| *one == (run, number)) {
            refused.remove(at);
            return Err(BrokerError("no".to_owned()));
        }
        self.0.taken.lock().unwrap().push((run, number));
        Ok(())
    }

    async fn close(&self) {}
}

fn event(id: i64, run_id: Uuid, run_seq: i64) -> StoredEvent {
    StoredEvent {
        id,
        run_id,
        run_seq,
        entity: Entity::Run,
        entity_id: run_id,
        event_type: "update".to_owned(),
        org_id: "o".to_owned(),
        service: "s".to_owned(),
        status: "running".to_owned(),
        payload: json!({}),
        created_at: OffsetDateTime::UNIX_EPOCH,
        stdout: Stdout::default(),
    }
}

struct Case {
    outbox: Arc<Outbox>,
    exchange: Fake,
    publisher: Publisher,
    runs: Vec<Uuid>,
}

/// So many events of each of so many runs, mixed.
fn case(runs: usize, each: i64, lease: Option<i64>) -> Case {
    let runs: Vec<Uuid> = (0..runs).map(|_| Uuid::new_v4()).collect();
    let numbers = (1..=each).flat_map(|number| runs.iter().map(move |run| (*run, number)));
    let rows = (1..).zip(numbers).map(|(id, (run, number))| (event(id, run, number), false));
    let outbox = Arc::new(Outbox { rows: Mutex::new(rows.collect()), epoch: 7 });
    let exchange = Fake::default();
    let parts = Parts {
        events: outbox.clone(),
        leases: Arc::new(Held(lease)),
        broker: Arc::new(exchange.clone()),
        wakeups: Wakeups::default(),
        settings: EventSettings::read(&mut Source::new([].into())),
        name: "test".to_owned(),
    };
    Case { outbox, exchange, publisher: Publisher::new(parts), runs }
}

impl Case {
    fn waiting(&self) -> usize {
        self.outbox.rows.lock().unwrap().iter().filter(|row| !row.1).count()
    }

    /// Runs until nothing waits.
    async fn until_empty(&self) {
        let shutdown = CancellationToken::new();
        let looking = async {
            while self.waiting() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            shutdown.cancel();
        };
        tokio::join!(self.publisher.run(shutdown.clone()), looking);
    }

    /// What consumers saw of a run.
    fn seen(&self, run: Uuid) -> Vec<i64> {
        let taken = self.exchange.0.taken.lock().unwrap();
        taken.iter().filter(|one| one.0 == run).map(|one| one.1).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn every_run_is_in_order_and_runs_do_not_wait_for_each_other() {
    let case = case(30, 40, Some(7));
    case.until_empty().await;
    for run in &case.runs {
        assert_eq!(case.seen(*run), (1..=40).collect::<Vec<_>>());
    }
    assert!(*case.exchange.0.most_under_way.lock().unwrap() > 10);
}

#[tokio::test(start_paused = true)]
async fn nothing_overtakes_what_was_refused() {
    let case = case(5, 9, Some(7));
    let refused = case.runs.iter().map(|run| (*run, 3)).collect();
    *case.exchange.0.refuse_once.lock().unwrap() = refused;
    case.until_empty().await;
    for run in &case.runs {
        assert_eq!(case.seen(*run), (1..=9).collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_away_is_waited_for() {
    let case = case(1, 2, Some(7));
    case.exchange.0.down.store(true, Ordering::SeqCst);
    let coming_back = async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(case.waiting(), 2);
        case.exchange.0.down.store(false, Ordering::SeqCst);
    };
    tokio::join!(case.until_empty(), coming_back);
    assert_eq!(case.seen(case.runs[0]), [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn without_the_right_nothing_is_published() {
    let case = case(1, 2, None);
    let shutdown = CancellationToken::new();
    let ending = async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        shutdown.cancel();
    };
    tokio::join!(case.publisher.run(shutdown.clone()), ending);
    assert_eq!((case.waiting(), case.seen(case.runs[0]).len()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stale_epoch_marks_nothing() {
    let case = case(1, 2, Some(6));
    let shutdown = CancellationToken::new();
    let ending = async {
        tokio::time::sleep(Duration::from_secs(9)).await;
        shutdown.cancel();
    };
    tokio::join!(case.publisher.run(shutdown.clone()), ending);
    assert_eq!(case.waiting(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_right_that_is_over_sends_nothing_more() {
    let case = case(1, 2, Some(7));
    let right = Right { lease: Lease { epoch: 7 }, until: Mutex::new(Instant::now()) };
    let round = case.publisher.round(&right, &mut None).await;
    assert!(matches!(round, Err(Interruption::Superseded)), "{round:?}");
    assert_eq!((case.waiting(), case.seen(case.runs[0]).len()), (2, 0));
}
