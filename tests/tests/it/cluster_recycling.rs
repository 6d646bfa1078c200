//! Instances that begin anew after so many requests, behind a balancer, started again by whoever
//! supervises them: no request is lost.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use dispatcher_tests::{
    cluster::{CLIENT_MARGIN, Cluster, Plan, REQUEST_TIMEOUT},
    process::BASE,
};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const INSTANCES: usize = 2;
/// How often each instance is to begin anew.
const ENDS: u64 = 2;
const CLIENTS: usize = 6;

/// Starts an instance again whenever it ends, as `Restart=always` does; how often it ended.
async fn supervised(cluster: &Cluster, index: usize, ends: &AtomicU64, over: &CancellationToken) {
    let process = &cluster.instances[index].process;
    while !over.is_cancelled() {
        if process.has_ended() {
            assert_eq!(process.reap().unwrap(), 0, "{}", process.tail());
            ends.fetch_add(1, Ordering::Relaxed);
            process.start().unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Dispatches and reads until it is over; the runs that were created. Every request is answered.
async fn client(cluster: &Cluster, served: &AtomicUsize, over: &CancellationToken) -> Vec<Uuid> {
    let mut created = Vec::new();
    let patience = Duration::from_secs(REQUEST_TIMEOUT) + CLIENT_MARGIN;
    while !over.is_cancelled() {
        let item = json!([{
            "recipient": Uuid::new_v4(), "org_id": "org-1", "principal": "test", "name": "a run",
            "url": "https://example.com/site.yml",
        }]);
        let request = cluster.request(Method::POST, "/internal/v2/dispatch").json(&item);
        let answer = request.timeout(patience).send().await.unwrap();
        let status = answer.status();
        let items: Value = answer.json().await.unwrap();
        assert_eq!(items[0]["code"], 201, "{status}: {items}");
        created.push(items[0]["id"].as_str().unwrap().parse().unwrap());
        let request = cluster.request(Method::GET, &format!("{BASE}/runs?limit=5"));
        let answer = request.timeout(patience).send().await.unwrap();
        assert!(answer.status().is_success(), "{}", answer.status());
        answer.bytes().await.unwrap();
        served.fetch_add(2, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    created
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_begin_anew_one_after_the_other_and_no_request_is_lost() {
    let plan = Plan::plain(INSTANCES)
        .with("MAX_REQUESTS", "100")
        .with("MAX_REQUESTS_JITTER", "20")
        .with("CLOUD_CONNECTOR_IMPL", "mock");
    let cluster = Cluster::start(&plan).await.unwrap();
    let ends: Vec<_> = (0..INSTANCES).map(|_| AtomicU64::new(0)).collect();
    let (served, over, started) = (AtomicUsize::new(0), CancellationToken::new(), Instant::now());
    let supervising = (0..INSTANCES).map(|index| supervised(&cluster, index, &ends[index], &over));
    let clients = (0..CLIENTS).map(|_| client(&cluster, &served, &over));
    let enough = async {
        while !ends.iter().all(|ends| ends.load(Ordering::Relaxed) >= ENDS) {
            assert!(started.elapsed() < Duration::from_secs(600), "instances do not begin anew");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        over.cancel();
    };
    let (created, _, ()) = tokio::join!(join_all(clients), join_all(supervising), enough);
    let created: BTreeSet<Uuid> = created.into_iter().flatten().collect();
    let client = cluster.database.client().await.unwrap();
    let rows = client.query("SELECT id FROM runs", &[]).await.unwrap();
    let stored: BTreeSet<Uuid> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(stored, created, "every answered dispatch is there, once, and no other");
    println!(
        "{} requests, {} dispatches, none lost, while {INSTANCES} instances ended {:?} times in {:?}",
        served.load(Ordering::Relaxed),
        created.len(),
        ends.iter().map(|ends| ends.load(Ordering::Relaxed)).collect::<Vec<_>>(),
        started.elapsed()
    );
}
