//! Events through a real RabbitMQ: every one arrives, in the order of its run, whatever dies.

use std::{collections::BTreeMap, time::Duration};

use dispatcher_api::{
    config::execution::DEFAULT_LOCAL_ORG,
    runs::model::{CancelRequest, NewRun},
    store::{Stores, events::Fence},
};
use dispatcher_tests::{
    conformance::fixtures::{hosts, now, run},
    consumer::{Consumer, Message},
    ports,
    postgres::Database,
    process::{BASE, PATIENCE, Service},
    rabbitmq::PrivateRabbit,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_postgres::Client;
use uuid::Uuid;

/// The organisation that the key of these tests acts for.
const ORG: &str = DEFAULT_LOCAL_ORG;

/// A broker with a consumer, a database, and what is needed to start instances.
struct Stage {
    rabbit: PrivateRabbit,
    consumer: Consumer,
    database: Database,
    stores: Stores,
    client: Client,
    directory: TempDir,
}

impl Stage {
    async fn set() -> Self {
        let rabbit = PrivateRabbit::start().await.unwrap();
        let consumer = Consumer::start(&rabbit).await.unwrap();
        let database = Database::migrated().await.unwrap();
        let (stores, client) = (database.stores().await.unwrap(), database.client().await.unwrap());
        let directory = tempfile::tempdir().unwrap();
        Self { rabbit, consumer, database, stores, client, directory }
    }

    /// An instance whose address of the broker also names a server that is never there.
    async fn instance(&self, name: &str, more: &[(&str, &str)]) -> Service {
        let directory = self.directory.path().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let gone = format!("guest@localhost:{},", ports::free().unwrap());
        let url = self.rabbit.url().replace("guest@", &gone);
        let own = [
            ("AMQP_URL", url.as_str()),
            ("AMQP_CONFIRM_TIMEOUT", "20"),
            ("EVENTS_BATCH", "50"),
            ("LOCAL_WORKER", "false"),
        ];
        Service::serve(&directory, &self.database.url, &[&own, more].concat()).await.unwrap()
    }

    /// Creates runs and cancels them, at once from several sides.
    async fn change(&self, runs: usize) {
        let tasks: Vec<_> = (0..4)
            .map(|_| {
                let stores = self.stores.clone();
                tokio::spawn(async move {
                    for _ in 0..runs {
                        created_and_canceled(&stores).await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    }

    /// Every event that there ever was, by run: its number and what it says.
    async fn written(&self) -> BTreeMap<Uuid, Vec<String>> {
        let sql = "SELECT run_id, event_type, entity_id FROM outbox ORDER BY run_id, run_seq";
        let mut written = BTreeMap::<_, Vec<_>>::new();
        for row in self.client.query(sql, &[]).await.unwrap() {
            let (kind, entity): (String, Uuid) = (row.get(1), row.get(2));
            written.entry(row.get(0)).or_default().push(format!("{kind} {entity}"));
        }
        written
    }

    /// Waits until every event has arrived; fails where one arrived before its turn. Answers with
    /// how many came more than once.
    async fn all_arrived(&self) -> usize {
        let written = self.written().await;
        let all = written.values().map(Vec::len).sum::<usize>();
        let messages = self.consumer.until(|messages| by_run(messages).1 == all).await.unwrap();
        let (seen, count) = by_run(&messages);
        assert_eq!(seen, written);
        self.until("marked", "SELECT count(*) = 0 FROM outbox WHERE published_at IS NULL").await;
        messages.len() - count
    }

    async fn until(&self, what: &str, sql: &str) {
        let started = std::time::Instant::now();
        while !self.client.query_one(sql, &[]).await.unwrap().get::<_, bool>(0) {
            assert!(started.elapsed() < PATIENCE, "never {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

async fn created_and_canceled(stores: &Stores) {
    let one = NewRun { hosts: hosts(&["a", "b", "c"]), ..run(ORG) };
    stores.runs.create(std::slice::from_ref(&one), None, &[]).await.unwrap();
    let request =
        CancelRequest { run_id: one.id, org_id: ORG.to_owned(), principal: "test".to_owned() };
    stores.runs.cancel(&[request], now(), None).await.unwrap();
}

/// What consumers know of each run when they drop what they have had, in the order in which it
/// came, and how many that are. Numbers must follow each other.
fn by_run(messages: &[Message]) -> (BTreeMap<Uuid, Vec<String>>, usize) {
    let (mut seen, mut ids, mut count) =
        (BTreeMap::<_, Vec<String>>::new(), std::collections::BTreeSet::new(), 0);
    for message in messages {
        if !ids.insert(message.id().expect("messages have ids")) {
            continue;
        }
        let text = |name: &str| message.header(name).unwrap().as_str().unwrap().to_owned();
        let run = seen.entry(text("run_id").parse().unwrap()).or_default();
        run.push(format!("{} {}", text("event_type"), text("key")));
        let number = message.header("run_seq").unwrap();
        assert_eq!(number, run.len() as u64, "an event came before its turn: {message:?}");
        count += 1;
    }
    (seen, count)
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_arrives_in_order_though_the_broker_is_killed() {
    let stage = Stage::set().await;
    let service = stage.instance("one", &[]).await;
    stage.change(5).await;
    assert_eq!(stage.all_arrived().await, 0, "nothing is sent twice without a reason");
    let killing = async {
        stage.until("busy", "SELECT count(*) > 200 FROM outbox").await;
        stage.rabbit.process().kill().unwrap();
        stage.rabbit.restart().await.unwrap();
    };
    tokio::join!(stage.change(20), killing);
    stage.all_arrived().await;
    let path = format!("{BASE}/events/read");
    let request = service.request(reqwest::Method::POST, &path);
    let answer = request.json(&json!({"status": "canceled", "limit": 7})).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let told: Value = answer.json().await.unwrap();
    assert_eq!((&told["runs"], &told["run_hosts"]), (&json!(7), &json!(21)), "{told}");
    assert!(told["next"].is_string());
    stage.all_arrived().await;
    a_message_is_the_contracts(&stage.consumer.messages());
}

fn a_message_is_the_contracts(messages: &[Message]) {
    let of = |exchange: &str, kind: &str| {
        let is = |message: &&Message| message.exchange == exchange && message.key.starts_with(kind);
        messages.iter().find(is).unwrap().clone()
    };
    let host = of("platform.playbook-dispatcher.run-hosts", "update.");
    assert_eq!(host.key, "update.remediations.canceled");
    let body = host.json().unwrap();
    assert_eq!(body["event_type"], "update");
    let members: Vec<_> = body["payload"].as_object().unwrap().keys().cloned().collect();
    let expected = ["id", "run_id", "host", "stdout", "status", "created_at", "updated_at"];
    assert_eq!(members, expected);
    let run = of("platform.playbook-dispatcher.runs", "create.");
    assert_eq!(run.key, "create.remediations.running");
    assert_eq!(run.header("key").unwrap(), run.json().unwrap()["payload"]["id"]);
    assert_eq!(run.header("org_id").unwrap(), ORG);
    let properties = &run.properties;
    assert_eq!(*properties.delivery_mode(), Some(2), "it outlives the broker");
    assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "application/json");
    assert_eq!(properties.kind().as_ref().unwrap().as_str(), "run.create");
    assert!(properties.timestamp().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_between_confirming_and_marking_it_publishes_again() {
    let stage = Stage::set().await;
    for point in ["events.one_confirmed#3", "events.confirmed"] {
        let mut killed = stage.instance("one", &[("DISPATCHER_CRASH_AT", point)]).await;
        stage.change(5).await;
        killed.died().await.unwrap();
    }
    let _service = stage.instance("one", &[]).await;
    assert!(stage.all_arrived().await > 0, "what was confirmed and not marked comes again");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_two_instances_publishes_and_the_other_takes_over() {
    let stage = Stage::set().await;
    let mut instances = [stage.instance("one", &[]).await, stage.instance("two", &[]).await];
    stage.change(5).await;
    assert_eq!(stage.all_arrived().await, 0, "two publishers would send everything twice");
    let sql = "SELECT holder, holder_name, epoch FROM leases WHERE name = 'outbox'";
    let row = stage.client.query_one(sql, &[]).await.unwrap();
    let (name, fence): (String, Fence) =
        (row.get(1), Fence { holder: row.get(0), epoch: row.get(2) });
    let pid: u32 = name.rsplit('/').next().unwrap().parse().unwrap();
    let holder = instances.iter_mut().find(|one| one.pid() == Some(pid)).unwrap();
    holder.kill().await.unwrap();
    stage.change(5).await;
    stage.all_arrived().await;
    let epochs: Vec<_> =
        stage.consumer.messages().iter().map(|message| message.header("epoch").unwrap()).collect();
    assert_eq!(epochs.first().unwrap(), &json!(fence.epoch));
    assert_eq!(epochs.last().unwrap(), &json!(fence.epoch + 1));
    // The first, were it alive, would change nothing any more.
    let ids = stage.client.query("SELECT id FROM outbox", &[]).await.unwrap();
    let ids: Vec<i64> = ids.iter().map(|row| row.get(0)).collect();
    assert!(!stage.stores.events.mark_published(&ids, fence, now()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_hangs_keeps_nobody_from_working() {
    let stage = Stage::set().await;
    let service = stage.instance("one", &[("AMQP_CONFIRM_TIMEOUT", "2")]).await;
    stage.change(2).await;
    stage.all_arrived().await;
    stage.rabbit.process().pause().unwrap();
    stage.change(5).await;
    let started = std::time::Instant::now();
    let (mut answered, mut late) = (0, Vec::new());
    // Longer than several confirmations may take.
    while started.elapsed() < Duration::from_secs(7) {
        let asked = std::time::Instant::now();
        let request = service.request(reqwest::Method::GET, &format!("{BASE}/runs?limit=1"));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answered += 1;
        late.extend(Some(asked.elapsed()).filter(|took| *took >= Duration::from_secs(2)));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // One or another a busy machine makes late; a broker that hangs would make all of them so.
    assert!(late.len() * 2 <= answered, "of {answered} answers late were {late:?}");
    while connecting(&service) > 2 {
        assert!(started.elapsed() < PATIENCE, "tries to connect are still under way");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stage.rabbit.process().resume().unwrap();
    stage.all_arrived().await;
}

/// How many threads of the client of the broker there are: one or two for each connection.
fn connecting(service: &Service) -> usize {
    let pid = service.pid().unwrap();
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|name| name.starts_with("lapin"))
        .count()
}
