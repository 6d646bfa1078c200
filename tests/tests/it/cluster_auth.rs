//! Changes of who may call, on four instances at once: in force everywhere at once with a tracker,
//! within the time of the fall-back without one, and untouched by whatever happens to Redis.
//!
//! Bounds are those of a machine that is busy with other tests; what they distinguish is the way by
//! which a change arrives. The times that were measured are printed.

use std::time::{Duration, Instant};

use dispatcher_tests::{
    cluster::{Cluster, Instance, ORG, Plan, answered},
    jwt::{Algorithm, SigningKey},
    oidc::{AUDIENCE, Issuer, REALM},
    process::{BASE, PATIENCE},
};
use futures_util::future::join_all;
use redis::AsyncCommands as _;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use uuid::Uuid;

/// What is in force through the tracker: below the ten seconds after which a snapshot is issued
/// anew, and the fifteen after which instances help themselves.
const BY_TRACKER: Duration = Duration::from_secs(8);
/// What is in force without a tracker.
const BY_THEMSELVES: Duration = Duration::from_secs(60);
/// Where the snapshot is.
const SNAPSHOT: &str = "dispatcher:auth:snapshot";
const VERSION: &str = "dispatcher:auth:version";
/// What is there as long as nobody may ask for keys of the SSO server again.
const REFETCH: &str = "dispatcher:auth:refetch";
/// How soon its keys may be asked for again: ten seconds, less what a busy machine may hold up the
/// first of two requests longer than the second.
const REFETCH_AFTER: Duration = Duration::from_secs(5);

struct Stage {
    cluster: Cluster,
    issuer: Issuer,
    client: Client,
}

impl Stage {
    async fn set() -> Self {
        Self::set_with(&[]).await
    }

    async fn set_with(settings: &[(&str, &str)]) -> Self {
        let issuer = Issuer::start().unwrap();
        let mut plan = Plan::plain(4)
            .with("SSO_URL", issuer.url())
            .with("SSO_REALM", REALM)
            .with("SSO_AUDIENCES", AUDIENCE)
            .with("SSO_ORG_CLAIM", "org")
            .with("SSO_ROLE_MAP", "boss=admin,worker=operator")
            .with("AUTH_FAILURES_PER_MINUTE", "100000");
        for (name, value) in settings {
            plan = plan.with(name, value);
        }
        (plan.redis, plan.tracker) = (true, true);
        let cluster = Cluster::start(&plan).await.unwrap();
        let client = Client::new();
        let stage = Self { cluster, issuer, client };
        let admin = stage.admin();
        stage.until(PATIENCE, &admin, true).await;
        stage
    }

    /// The `Authorization` of an admin.
    fn admin(&self) -> String {
        let claims = json!({ "org": ORG, "realm_access": { "roles": ["boss"] } });
        format!("Bearer {}", self.issuer.token(&claims).unwrap())
    }

    /// The status with which an instance answers this caller.
    async fn status(&self, instance: &Instance, authorization: &str) -> u16 {
        let url = format!("{}{BASE}/identity", instance.url());
        let request = self.client.get(url).header("authorization", authorization);
        let answer = request.header("x-dispatcher-org", ORG).send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        assert!([200, 401, 403].contains(&status), "{status}: {text}");
        status
    }

    /// Whether each instance lets this caller in, asked at the same moment.
    async fn let_in(&self, authorization: &str) -> Vec<bool> {
        let all = self.cluster.instances.iter();
        let asked = all.map(|instance| self.status(instance, authorization));
        join_all(asked).await.into_iter().map(|status| status == 200).collect()
    }

    /// A thousand tokens with key ids that nobody has, to all instances in turn; the longest time
    /// that one waited.
    async fn forged(&self) -> Duration {
        let key = SigningKey::new("forged", Algorithm::Es256).unwrap();
        let claims = self.issuer.claims(&json!({ "org": ORG }));
        let instances = self.cluster.instances.iter().cycle();
        let asked = instances.zip(0..1_000).map(|(instance, number)| {
            let header = json!({ "alg": key.alg(), "kid": format!("forged-{number}") });
            let token = format!("Bearer {}", key.sign(&header, &claims).unwrap());
            async move {
                let since = Instant::now();
                assert_eq!(self.status(instance, &token).await, 401);
                since.elapsed()
            }
        });
        join_all(asked).await.into_iter().max().unwrap()
    }

    /// The same twice, one after the other: how often the SSO server was asked for its keys, which
    /// within ten seconds is at most once by each of those who ask; and the longest waits.
    async fn forged_twice(&self, askers: usize) -> (usize, Duration, Duration) {
        let begin = Instant::now();
        let waits = (self.forged().await, self.forged().await);
        let asked = self.issuer.keys_asked_since(begin);
        for (earlier, later) in asked.iter().zip(asked.iter().skip(askers)) {
            let between = later.duration_since(*earlier);
            assert!(between > REFETCH_AFTER, "asked again after {between:?}");
        }
        (asked.len(), waits.0, waits.1)
    }

    /// Waits until every instance lets this caller in, or none does; how long that took.
    async fn until(&self, at_most: Duration, authorization: &str, wanted: bool) -> Duration {
        let since = Instant::now();
        loop {
            let found = self.let_in(authorization).await;
            if found.iter().all(|is_in| *is_in == wanted) {
                return since.elapsed();
            }
            let elapsed = since.elapsed();
            assert!(elapsed < at_most, "after {elapsed:?} instances say {found:?}, not {wanted}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Asks the balancer as an admin.
    async fn ask(&self, method: Method, path: &str, body: &Value) -> Value {
        let url = format!("{}{BASE}/{path}", self.cluster.url());
        let request = self.client.request(method, url).header("authorization", self.admin());
        answered(request.json(body)).await.unwrap()
    }

    /// Makes a key: its id and the `Authorization` it is presented by.
    async fn key(&self, service: &str) -> (String, String) {
        let made = self.ask(Method::POST, "keys", &json!({ "service": service })).await;
        let text = |pointer: &str| made.pointer(pointer).unwrap().as_str().unwrap().to_owned();
        (text("/key/id"), format!("PSK {}", text("/secret")))
    }

    async fn revoke(&self, id: &str) {
        self.ask(Method::DELETE, &format!("keys/{id}"), &json!({})).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_in_force_on_every_instance_at_once() {
    let stage = Stage::set().await;
    let (id, old) = stage.key("ci").await;
    let made = stage.until(BY_TRACKER, &old, true).await;

    let (path, at_once) = (format!("keys/{id}/rotate"), json!({ "overlap_seconds": 0 }));
    let rotated = stage.ask(Method::POST, &path, &at_once).await;
    let new = format!("PSK {}", rotated["secret"].as_str().unwrap());
    let replaced = stage.until(BY_TRACKER, &new, true).await;
    let ended = stage.until(BY_TRACKER, &old, false).await;

    stage.revoke(rotated["key"]["id"].as_str().unwrap()).await;
    let revoked = stage.until(BY_TRACKER, &new, false).await;

    let before = stage.admin();
    stage.until(PATIENCE, &before, true).await;
    stage.issuer.rotate("another").unwrap();
    let after = stage.admin();
    let sso_new = stage.until(BY_TRACKER, &after, true).await;
    let sso_old = stage.until(BY_TRACKER, &before, false).await;
    println!(
        "in force on four instances: key made {made:?}, replaced {replaced:?}, ended {ended:?}, \
         revoked {revoked:?}; SSO key new {sso_new:?}, old {sso_old:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_that_are_followed_with_a_key_end_with_it() {
    let stage = Stage::set_with(&[("CLOUD_CONNECTOR_IMPL", "mock")]).await;
    let (id, key) = stage.key("ci").await;
    stage.until(PATIENCE, &key, true).await;
    let item = json!([{
        "recipient": Uuid::new_v4(), "org_id": ORG, "principal": "test",
        "name": "a run", "url": "https://example.com/site.yml",
    }]);
    let dispatch = stage.cluster.request(Method::POST, "/internal/v2/dispatch").json(&item);
    let items: Value = answered(dispatch).await.unwrap();
    let id_of = items[0]["id"].as_str().unwrap_or_else(|| panic!("{items}"));
    let path = format!("{BASE}/runs/{id_of}/log?follow=true");
    let mut logs = Vec::new();
    for instance in &stage.cluster.instances {
        let request = stage.client.get(format!("{}{path}", instance.url()));
        let request = request.header("authorization", &key).header("x-dispatcher-org", ORG);
        let log = request.send().await.unwrap().error_for_status().unwrap();
        logs.push(tokio::spawn(log.text()));
    }
    // Other keys change: whoever still has one reads on.
    for service in ["cd", "ce"] {
        let (_, other) = stage.key(service).await;
        stage.until(PATIENCE, &other, true).await;
    }
    assert!(logs.iter().all(|log| !log.is_finished()), "a log ended for no reason");
    stage.revoke(&id).await;
    let since = Instant::now();
    for log in logs {
        let text = tokio::time::timeout(BY_TRACKER, log).await.unwrap().unwrap().unwrap();
        assert_eq!(text, "", "it ends as logs do at the end of a process: one asks again");
    }
    println!("four followed logs end {:?} after their key", since.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_tracker_instances_help_themselves() {
    let stage = Stage::set().await;
    let (id, key) = stage.key("ci").await;
    stage.until(PATIENCE, &key, true).await;
    stage.cluster.tracker.as_ref().unwrap().kill().unwrap();
    stage.revoke(&id).await;
    let revoked = stage.until(BY_THEMSELVES, &key, false).await;
    let (_, other) = stage.key("cd").await;
    let made = stage.until(PATIENCE, &other, true).await;
    println!("without a tracker: first change {revoked:?}, the next {made:?}");
    stage.cluster.tracker.as_ref().unwrap().start().unwrap();
    let (_, third) = stage.key("third").await;
    stage.until(BY_THEMSELVES, &third, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_forged_key_ids_are_one_fetch_for_whoever_fetches() {
    let stage = Stage::set_with(&[("SSO_REFRESH", "3600")]).await;
    let mut redis = stage.cluster.redis.as_ref().unwrap().client().await.unwrap();
    // What was asked for at the start must be over.
    while redis.exists::<_, bool>(REFETCH).await.unwrap() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (fetches, first, second) = stage.forged_twice(1).await;
    assert!(fetches >= 1, "the tracker fetches, for all four");

    let before = stage.issuer.requests().keys;
    stage.cluster.tracker.as_ref().unwrap().kill().unwrap();
    let since = Instant::now();
    while stage.issuer.requests().keys < before + 4 {
        assert!(since.elapsed() < PATIENCE, "instances do not help themselves");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (alone, third, fourth) = stage.forged_twice(4).await;
    assert!(alone >= 1, "each instance fetches for itself");
    println!(
        "2000 forged key ids on four instances: {fetches} fetches by the tracker (longest waits \
         {first:?}, {second:?}); without a tracker {alone} by four instances ({third:?}, {fourth:?})"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_changed_at_once_while_redis_says_nothing() {
    let stage = Stage::set().await;
    stage.key("before").await;
    stage.cluster.redis.as_ref().unwrap().process().pause().unwrap();
    let (mut took, mut keys) = (PATIENCE, Vec::new());
    // The least of some: a busy machine makes each of them longer, and none shorter.
    for service in ["while", "whilst", "meanwhile"] {
        let since = Instant::now();
        keys.push(stage.key(service).await.1);
        took = took.min(since.elapsed());
    }
    stage.cluster.redis.as_ref().unwrap().process().resume().unwrap();
    for key in keys {
        stage.until(PATIENCE, &key, true).await;
    }
    println!("a key is made in {took:?} while Redis is stopped");
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_to_redis_changes_nothing() {
    let stage = Stage::set().await;
    let redis = stage.cluster.redis.as_ref().unwrap();
    let ((_, kept), (id, revoked)) = (stage.key("kept").await, stage.key("gone").await);
    stage.until(PATIENCE, &revoked, true).await;
    let mut client = redis.client().await.unwrap();
    let older: Vec<u8> = client.get(SNAPSHOT).await.unwrap();
    assert!(!older.is_empty());
    stage.revoke(&id).await;
    stage.until(PATIENCE, &revoked, false).await;

    // The tracker would put things right at once.
    stage.cluster.tracker.as_ref().unwrap().pause().unwrap();
    let forged = String::from_utf8(older.clone()).unwrap().replacen("reader", "admin", 1);
    let forged = forged.replacen("operator", "admin", 1);
    for (snapshot, version) in [(older, u64::MAX >> 1), (forged.into_bytes(), u64::MAX >> 1)] {
        let () = client.set(SNAPSHOT, snapshot).await.unwrap();
        let () = client.set(VERSION, version).await.unwrap();
        unchanged(&stage, &kept, &revoked).await;
    }
    redis.flush().await.unwrap();
    unchanged(&stage, &kept, &revoked).await;
    stage.cluster.tracker.as_ref().unwrap().resume().unwrap();
    unchanged(&stage, &kept, &revoked).await;
}

/// For longer than instances need to look: the one is let in, the other is not.
async fn unchanged(stage: &Stage, kept: &str, revoked: &str) {
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(2) {
        assert!(stage.let_in(kept).await.iter().all(|is_in| *is_in));
        assert!(!stage.let_in(revoked).await.iter().any(|is_in| *is_in));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
