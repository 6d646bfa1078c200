//! What a request costs the database does not depend on how many instances there are.

use std::collections::BTreeMap;

use dispatcher_tests::{
    counting::Calls,
    postgres::Database,
    process::BASE,
    service::{InProcess, new_run},
    worker::{self, printed},
};
use reqwest::Method;

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
    METHODS.map(|method| (method, calls.of(method))).into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_costs_the_same_at_one_instance_and_at_four() {
    let mut alone = asked_of(1).await;
    let mut among_four = asked_of(4).await;
    // The worker's key is looked up once a second, however long this takes here.
    let lookups = [&mut alone, &mut among_four].map(|asked| asked.remove("find").unwrap());
    assert!(lookups.iter().all(|lookups| *lookups <= 5), "{lookups:?}");
    assert_eq!(alone, among_four);
    assert_eq!((alone["claim"], alone["append"], alone["finish"]), (1, 2, 1));
}
