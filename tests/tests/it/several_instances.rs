//! What a request costs the database does not depend on how many instances there are.

use std::{collections::BTreeMap, time::Instant};

use dispatcher_tests::{
    counting::Calls,
    postgres::{Database, PrivatePostgres},
    process::BASE,
    service::{InProcess, new_run},
    statements,
    worker::{self, printed},
};
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::runs_dispatch::{item, present};

/// Everything that is counted.
const METHODS: [&str; 5] = ["claim", "append", "finish", "inputs", "find"];

/// A run from dispatch to its end at the first of so many instances, each with its own loops.
async fn asked_of(instances: usize) -> BTreeMap<&'static str, usize> {
    let database = Database::migrated().await.unwrap();
    let calls = Calls::default();
    let mut all = Vec::new();
    for _ in 0..instances {
        let stores = calls.wrap(database.stores().await.unwrap());
        all.push(InProcess::instance(stores, &[]).await.unwrap());
    }
    let service = &all[0];
    let begun = Instant::now();
    let worker = service.worker().await.unwrap();
    let id = service.create(new_run(worker.recipient)).await.unwrap();
    let run = worker.claimed().await.unwrap();
    worker.append(&run, 0, &[worker::start(&run), printed("web", "hello")]).await.unwrap();
    worker.append(&run, 2, &[worker::stats(&["web"], &[])]).await.unwrap();
    worker.finish(&run, 3).await.unwrap();
    for path in ["runs", &format!("runs/{id}"), "run_hosts"] {
        let answer = service.request(Method::GET, &format!("{BASE}/{path}")).send().await.unwrap();
        answer.error_for_status().unwrap();
    }
    let mut asked = BTreeMap::from(METHODS.map(|method| (method, calls.of(method))));
    // The worker's key is looked up once a second, however long this takes here.
    let lookups = asked.remove("find").unwrap();
    let most = 1 + usize::try_from(begun.elapsed().as_secs()).unwrap();
    assert!((1..=most).contains(&lookups), "{lookups} within {most} s");
    asked
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_costs_the_same_at_one_instance_and_at_four() {
    let alone = asked_of(1).await;
    let among_four = asked_of(4).await;
    assert_eq!(alone, among_four);
    assert_eq!((alone["claim"], alone["append"], alone["finish"]), (1, 2, 1));
}

/// The tables of runs and of what belongs to them: what loops beside requests do not ask for while
/// nobody waits.
const TABLES: [&str; 8] = [
    "runs",
    "run_hosts",
    "run_work",
    "run_output",
    "run_sequence",
    "outbox",
    "idempotency",
    "audit",
];
/// How often each request is made.
const ROUNDS: usize = 8;

/// The statements of some dispatches and lists, taken in turn by so many instances.
async fn statements_of(server: &PrivatePostgres, instances: usize) -> BTreeMap<String, usize> {
    let database = server.migrated().await.unwrap();
    let name = database.url.rsplit('/').next().unwrap().split('?').next().unwrap().to_owned();
    let mut all = Vec::new();
    for _ in 0..instances {
        let stores = database.stores().await.unwrap();
        all.push(InProcess::instance(stores, &[]).await.unwrap());
    }
    let recipient = present(&all[0]).await;
    let begin = statements::of(server, &name).unwrap().len();
    for (round, service) in (0..ROUNDS).zip(all.iter().cycle()) {
        let items = json!([item(recipient, &json!({})), item(recipient, &json!({}))]);
        let request = service.request(Method::POST, "/internal/v2/dispatch").json(&items);
        let request = request.header("idempotency-key", format!("key-{round}"));
        assert_eq!(request.send().await.unwrap().status(), StatusCode::MULTI_STATUS);
        for path in ["runs", "runs?filter[status]=running", "run_hosts"] {
            let request = service.request(Method::GET, &format!("{BASE}/{path}"));
            request.send().await.unwrap().error_for_status().unwrap();
        }
    }
    let said = statements::of(server, &name).unwrap();
    statements::kinds(&said[begin..], &TABLES)
}

#[tokio::test(flavor = "multi_thread")]
async fn dispatches_and_lists_are_as_many_statements_at_one_instance_as_at_four() {
    let start = || PrivatePostgres::start_with(statements::OPTIONS, &[]);
    let server = tokio::task::spawn_blocking(start).await.unwrap().unwrap();
    let alone = statements_of(&server, 1).await;
    let among_four = statements_of(&server, 4).await;
    let sum = |kinds: &BTreeMap<String, usize>| kinds.values().sum::<usize>();
    println!(
        "{ROUNDS} dispatches of 2 runs and {} lists: {} statements at one instance, {} at four:",
        3 * ROUNDS,
        sum(&alone),
        sum(&among_four)
    );
    for (kind, count) in &among_four {
        println!("  {count:4}  {kind}");
    }
    assert!(sum(&alone) >= 4 * ROUNDS, "{alone:?}");
    assert_eq!(alone, among_four);
}
