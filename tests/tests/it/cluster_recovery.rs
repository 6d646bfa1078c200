//! Backing services that go away and come back, and instances that are there before them: what is
//! missing is named, the rest works, and nothing has to be started again.

use std::time::{Duration, Instant};

use dispatcher_tests::{
    cluster::{Cluster, Plan},
    consumer::Consumer,
    load::DEADLINE,
    process::BASE,
};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

fn everything(instances: usize) -> Plan {
    let plan = Plan { tracker: false, ..Plan::whole(instances) };
    plan.with("CLOUD_CONNECTOR_IMPL", "mock").with("DB_POOL_TIMEOUT", "2")
}

/// Creates a run on a foreign host, through the balancer, and asks again where a busy machine was
/// too late: what is gone stays gone meanwhile.
async fn dispatch(cluster: &Cluster) -> String {
    let item = json!([{
        "recipient": Uuid::new_v4(), "org_id": "org-1", "principal": "test", "name": "a run",
        "url": "https://example.com/site.yml",
    }]);
    let since = Instant::now();
    loop {
        let request = cluster.request(Method::POST, "/internal/v2/dispatch").json(&item);
        let answer = request.timeout(DEADLINE).send().await.unwrap().text().await.unwrap();
        let items: Value = serde_json::from_str(&answer).unwrap_or_default();
        if items[0]["code"] == 201 {
            return items[0]["id"].as_str().unwrap().to_owned();
        }
        assert!(since.elapsed() < Duration::from_secs(60), "{answer}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until the first instance misses exactly these, or serves without exactly these.
async fn until_without(cluster: &Cluster, status: u16, wanted: &[&str]) {
    let instance = &cluster.instances[0];
    let misses = async || {
        let Ok((found, body)) = instance.ready().await else { return false };
        let body: Value = serde_json::from_str(&body).unwrap();
        let list = if status == 200 { &body["degraded"] } else { &body["missing"] };
        let list = list.as_array().cloned().unwrap_or_default();
        let names: Vec<&str> = list.iter().filter_map(|it| it["name"].as_str()).collect();
        names == wanted && found == status
    };
    instance.process.until(&format!("was {status} without {wanted:?}"), misses).await.unwrap();
    let live = reqwest::get(format!("{}/health/live", instance.url())).await.unwrap();
    assert_eq!(live.status(), 200);
}

async fn until_published(consumer: &Consumer, run: &str) {
    let is_there = |message: &dispatcher_tests::consumer::Message| {
        message.header("run_id").is_some_and(|id| id == run)
    };
    consumer.until(|messages| messages.iter().any(is_there)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_away_is_named_and_used_again_when_it_is_back() {
    let cluster = Cluster::start(&everything(1)).await.unwrap();
    let consumer = Consumer::start(cluster.rabbit.as_ref().unwrap()).await.unwrap();
    let pid = cluster.instances[0].process.pid().unwrap();

    let s3 = cluster.s3.as_ref().unwrap();
    s3.process().kill().unwrap();
    until_without(&cluster, 200, &["store"]).await;
    // The balancer goes on leading there: what needs no objects is answered, what does says so.
    cluster.haproxy.until_up(1).await.unwrap();
    until_published(&consumer, &dispatch(&cluster).await).await;
    let put = cluster.request(Method::PUT, &format!("{BASE}/playbooks/site.yml"));
    let refused = put.body("- hosts: all\n").timeout(DEADLINE).send().await.unwrap();
    assert_eq!(refused.status(), 503);
    cluster.postgres.kill().unwrap();
    until_without(&cluster, 503, &["database"]).await;
    cluster.postgres.restart().unwrap();
    until_without(&cluster, 200, &["store"]).await;
    s3.restart().await.unwrap();
    until_without(&cluster, 200, &[]).await;
    cluster.until_ready().await.unwrap();
    until_published(&consumer, &dispatch(&cluster).await).await;

    // Without these two it goes on: keys come from their sources, events wait.
    let (redis, rabbit) = (cluster.redis.as_ref().unwrap(), cluster.rabbit.as_ref().unwrap());
    redis.process().kill().unwrap();
    rabbit.process().kill().unwrap();
    let waiting = dispatch(&cluster).await;
    until_without(&cluster, 200, &[]).await;
    rabbit.restart().await.unwrap();
    redis.restart_empty().await.unwrap();
    until_published(&consumer, &waiting).await;
    until_published(&consumer, &dispatch(&cluster).await).await;
    assert_eq!(cluster.instances[0].process.pid().unwrap(), pid, "it was started again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_may_be_started_before_everything_they_need() {
    let cluster = Cluster::prepare(&everything(2)).await.unwrap();
    let consumer = Consumer::start(cluster.rabbit.as_ref().unwrap()).await.unwrap();
    let (redis, rabbit) = (cluster.redis.as_ref().unwrap(), cluster.rabbit.as_ref().unwrap());
    let s3 = cluster.s3.as_ref().unwrap();
    cluster.postgres.kill().unwrap();
    for process in [redis.process(), rabbit.process(), s3.process()] {
        process.kill().unwrap();
    }
    cluster.start_instances().await.unwrap();
    let instance = &cluster.instances[0];
    let answers = async || instance.ready().await.is_ok_and(|(status, _)| status == 503);
    instance.process.until("answered probes", answers).await.unwrap();
    s3.restart().await.unwrap();
    rabbit.restart().await.unwrap();
    let names = async || instance.ready().await.is_ok_and(|(_, body)| body.contains("database"));
    instance.process.until("named the database", names).await.unwrap();
    cluster.postgres.restart().unwrap();
    cluster.until_ready().await.unwrap();
    let run = dispatch(&cluster).await;
    redis.restart().await.unwrap();
    until_published(&consumer, &run).await;
    dispatch(&cluster).await;
}
