//! The limit on messages to Cloud Connector: one for all instances over Redis, one of each instance
//! while Redis is away.

use std::time::{Duration, Instant};

use auth_tracker::redis::AuthRedis;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use dispatcher_tests::{
    cluster::{Cluster, ORG, Plan, answered},
    process::PATIENCE,
    redis::PrivateRedis,
    service::{InProcess, KEY},
};
use redis::AsyncCommands as _;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use uuid::Uuid;

const STATUS: &str = "/internal/v2/recipients/status";
const RATE: [(&str, &str); 3] = [
    ("CLOUD_CONNECTOR_IMPL", "mock"),
    ("CLOUD_CONNECTOR_RPS", "5"),
    ("CLOUD_CONNECTOR_REQ_BUCKET", "5"),
];

/// Ten questions, one after the other, at these addresses in turn; how long all of it took.
async fn ten(client: &Client, urls: &[String]) -> Duration {
    let started = Instant::now();
    for url in urls.iter().cycle().take(10) {
        let asked = json!([{ "recipient": Uuid::new_v4(), "org_id": ORG }]);
        let request = client.post(format!("{url}{STATUS}")).json(&asked);
        let request = request.header("authorization", format!("PSK {KEY}"));
        let known: Value = answered(request).await.unwrap();
        assert_eq!(known[0]["connected"], true);
    }
    started.elapsed()
}

#[tokio::test]
async fn ten_questions_at_five_a_second_take_a_second() {
    let service = InProcess::start_with(&RATE, |stores| stores).await.unwrap();
    let took = ten(&Client::new(), std::slice::from_ref(&service.url)).await;
    assert!(took >= Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn what_is_refused_takes_no_turn() {
    let rate = [
        RATE[0],
        ("CLOUD_CONNECTOR_RPS", "1"),
        ("CLOUD_CONNECTOR_REQ_BUCKET", "1"),
        ("BLOCKLIST_ORG_IDS", "666"),
        ("TENANT_TRANSLATOR_IMPL", "dynamic-mock"),
    ];
    let service = InProcess::start_with(&rate, |stores| stores).await.unwrap();
    let item = |org: &str| {
        json!({ "recipient": Uuid::new_v4(), "org_id": org, "principal": "p", "name": "n",
            "url": "https://example.com/p" })
    };
    let started = Instant::now();
    let mut items = vec![item("666"); 49];
    items.push(item("1"));
    let request = service.request(Method::POST, "/internal/v2/dispatch").json(&items);
    let made: Value = answered(request).await.unwrap();
    assert_eq!((&made[0]["code"], &made[49]["code"]), (&json!(400), &json!(201)));
    let unknown = json!({ "recipient": Uuid::new_v4(), "account": "1234",
        "url": "https://example.com/p" });
    let request = service.request(Method::POST, "/internal/dispatch").json(&vec![unknown; 50]);
    let made: Value = answered(request).await.unwrap();
    assert_eq!(made[49]["code"], 404);
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[tokio::test]
async fn cancellations_take_turns_too_and_connection_status_takes_none() {
    let more = [
        ("IDENTITY_HEADER_FROM", "loopback"),
        ("INVENTORY_CONNECTOR_IMPL", "mock"),
        ("SOURCES_IMPL", "mock"),
    ];
    let rate = [("CLOUD_CONNECTOR_RPS", "2"), ("CLOUD_CONNECTOR_REQ_BUCKET", "1"), RATE[0]];
    let variables = [&rate[..], &more].concat();
    let service = InProcess::start_with(&variables, |stores| stores).await.unwrap();
    let id = Uuid::new_v4();
    let satellite = json!([{ "recipient": Uuid::new_v4(), "org_id": ORG, "principal": "p",
        "name": "n", "url": "https://example.com/p", "hosts": [{ "inventory_id": id }],
        "recipient_config": { "sat_id": id, "sat_org_id": "5" } }]);
    let request = service.request(Method::POST, "/internal/v2/dispatch").json(&satellite);
    let made: Value = answered(request).await.unwrap();
    let cancel = json!([{ "run_id": made[0]["id"], "org_id": ORG, "principal": "p" }]);
    let started = Instant::now();
    for _ in 0..3 {
        let request = service.request(Method::POST, "/internal/v2/cancel").json(&cancel);
        let asked: Value = answered(request).await.unwrap();
        assert_eq!(asked[0]["code"], 202);
    }
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());

    let asked = json!({ "org_id": ORG, "hosts": ["h"] });
    let user = BASE64_STANDARD.encode(r#"{"identity":{"type":"User","org_id":"1"}}"#);
    let started = Instant::now();
    for _ in 0..20 {
        let request = Client::new().post(format!("{}/internal/v2/connection_status", service.url));
        let request = request.header("x-rh-identity", &user).json(&asked);
        let known: Value = answered(request).await.unwrap();
        assert_eq!(known[0]["status"], "connected");
    }
    // Each asks about two recipients: with a turn for each question, it were twenty seconds.
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_keep_to_the_rate_together_and_each_alone_while_redis_is_away() {
    let mut plan = Plan::plain(2);
    for (name, value) in RATE {
        plan = plan.with(name, value);
    }
    (plan.redis, plan.tracker) = (true, true);
    let cluster = Cluster::start(&plan).await.unwrap();
    let urls: Vec<String> = cluster.instances.iter().map(|instance| instance.url()).collect();
    let client = Client::new();
    ten(&client, &urls).await;
    let together = ten(&client, &urls).await;
    assert!(together >= Duration::from_millis(1_500), "{together:?}: ten more at five a second");

    let redis = cluster.redis.as_ref().unwrap();
    redis.process().kill().unwrap();
    let alone = ten(&client, &urls).await;
    println!("ten questions to two instances: {together:?} together, {alone:?} without Redis");

    redis.restart().await.unwrap();
    let since = Instant::now();
    loop {
        let took = ten(&client, &urls).await;
        if took >= Duration::from_millis(1_500) {
            break;
        }
        assert!(since.elapsed() < PATIENCE, "{took:?}: each still keeps to itself");
    }
}

#[tokio::test]
async fn turns_come_in_the_order_of_asking_by_the_clock_of_redis() {
    let server = PrivateRedis::start().await.unwrap();
    let (one, other) =
        (AuthRedis::at(&server.url(), None).unwrap(), AuthRedis::at(&server.url(), None).unwrap());
    let started = Instant::now();
    let mut waits = Vec::new();
    for redis in [&one, &other].into_iter().cycle().take(12) {
        waits.push(redis.take_turn("bucket", 10, 2).await.unwrap());
    }
    let took = started.elapsed();
    assert_eq!(waits[..2], [Duration::ZERO; 2]);
    for (nth, wait) in (1_u32..).zip(&waits[2..]) {
        let latest = Duration::from_millis(100) * nth;
        assert!((latest.saturating_sub(took)..=latest).contains(wait), "{nth}: {wait:?}");
    }

    // Another bucket is another bucket, and something of another type is none.
    let mut client = server.client().await.unwrap();
    let () = client.set("odd", "text").await.unwrap();
    assert_eq!(one.take_turn("odd", 1, 1).await.unwrap(), Duration::ZERO);
    assert!(one.take_turn("odd", 1, 1).await.unwrap() > Duration::from_millis(500));
    let left: i64 = client.pttl("odd").await.unwrap();
    assert!((1..=3_000).contains(&left), "a bucket goes by itself: {left}");

    // A clock that is behind what another server's was takes the debt along, not the time.
    let hour = 3_600_000_000_u64;
    let ahead: (u64, u64) = redis::cmd("TIME").query_async(&mut client).await.unwrap();
    let at = ahead.0 * 1_000_000 + ahead.1 + hour;
    let () = client.hset_multiple("back", &[("due", at + 500_000), ("at", at)]).await.unwrap();
    let wait = one.take_turn("back", 10, 1).await.unwrap();
    assert!(wait > Duration::ZERO && wait <= Duration::from_millis(500), "{wait:?}");
}
