//! The private services themselves: each starts, can be killed, halted and started again, and
//! nothing of it survives the process that started it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::http::StatusCode;
use dispatcher_tests::{
    authority::Authority,
    consumer::{Consumer, EXCHANGES, Message},
    guarded::{Guarded, is_gone},
    haproxy::PrivateHaproxy,
    jwt::Algorithm,
    oidc::{self, Issuer, Mode, PathStyle},
    process::PATIENCE,
    rabbitmq::{self, PrivateRabbit},
    redis::{Options, PrivateRedis},
    s3::{self, PrivateS3},
};
use jsonwebtoken::{DecodingKey, Validation, jwk::JwkSet};
use lapin::{
    BasicProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
    types::{AMQPValue, FieldTable},
};
use object_store::{
    ObjectStoreExt as _, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder},
};
use redis::AsyncCommands as _;
use rustix::process::Pid;
use serde_json::{Value, json};

#[tokio::test]
async fn redis_comes_back_with_what_it_held_or_empty() {
    let redis = PrivateRedis::start().await.unwrap();
    let mut client = redis.client().await.unwrap();
    let (): () = client.set("a", "kept").await.unwrap();
    redis.process().kill().unwrap();
    client.get::<_, Option<String>>("a").await.unwrap_err();
    redis.restart().await.unwrap();
    let mut client = redis.client().await.unwrap();
    assert_eq!(client.get::<_, String>("a").await.unwrap(), "kept");

    redis.process().pause().unwrap();
    let waiting = tokio::time::timeout(Duration::from_millis(300), redis.client()).await;
    assert!(waiting.is_err(), "a halted Redis answered");
    redis.process().resume().unwrap();
    redis.client().await.unwrap();

    redis.flush().await.unwrap();
    let mut client = redis.client().await.unwrap();
    assert_eq!(client.get::<_, Option<String>>("a").await.unwrap(), None);
    let (): () = client.set("a", "lost").await.unwrap();
    redis.process().kill().unwrap();
    redis.restart_empty().await.unwrap();
    let mut client = redis.client().await.unwrap();
    assert_eq!(client.get::<_, Option<String>>("a").await.unwrap(), None);
}

#[tokio::test]
async fn redis_with_a_password_over_tls() {
    let authority = Authority::new().unwrap();
    let options = Options { password: Some("sesame"), authority: Some(&authority) };
    let redis = PrivateRedis::start_with(&options).await.unwrap();
    let mut client = redis.client().await.unwrap();
    let (): () = client.set("a", "b").await.unwrap();
    let plain = format!("redis://:sesame@127.0.0.1:{}/", redis.port());
    let plain = redis::Client::open(plain).unwrap();
    plain.get_multiplexed_async_connection().await.unwrap_err();
}

/// Publishes one event as the service does, and waits until the broker has it.
async fn publish(rabbit: &PrivateRabbit, body: &[u8]) {
    let connection = rabbit.client().await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let mut headers = FieldTable::default();
    headers.insert("run_seq".into(), AMQPValue::LongLongInt(7));
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_message_id("an-id".into())
        .with_headers(headers);
    let options = BasicPublishOptions::default();
    let sent =
        channel.basic_publish(EXCHANGES[0].into(), "a.b.c".into(), options, body, properties);
    assert!(sent.await.unwrap().await.unwrap().is_ack());
}

#[tokio::test]
async fn rabbitmq_comes_back_with_what_it_confirmed() {
    let rabbit = PrivateRabbit::start().await.unwrap();
    let consumer = Consumer::start(&rabbit).await.unwrap();
    publish(&rabbit, b"first").await;
    let first = consumer.until(|messages| !messages.is_empty()).await.unwrap().remove(0);
    assert_eq!((first.exchange.as_str(), first.key.as_str()), (EXCHANGES[0], "a.b.c"));
    assert_eq!((first.body.as_slice(), first.id().as_deref()), (&b"first"[..], Some("an-id")));
    assert_eq!(first.header("run_seq"), Some(json!(7)));

    rabbit.process().pause().unwrap();
    let waiting = tokio::time::timeout(Duration::from_millis(300), rabbit.client()).await;
    assert!(waiting.is_err(), "a halted RabbitMQ answered");
    rabbit.process().resume().unwrap();
    publish(&rabbit, b"second").await;
    rabbit.process().kill().unwrap();
    rabbit.client().await.unwrap_err();
    rabbit.restart().await.unwrap();
    publish(&rabbit, b"third").await;
    let all = |messages: &[Message]| messages.iter().any(|message| message.body == b"third");
    let messages = consumer.until(all).await.unwrap();
    let mut bodies: Vec<_> = messages.iter().map(|it| String::from_utf8_lossy(&it.body)).collect();
    bodies.dedup();
    assert_eq!(bodies, ["first", "second", "third"]);
}

#[tokio::test]
async fn rabbitmq_over_tls() {
    let authority = Authority::new().unwrap();
    let options = rabbitmq::Options { authority: Some(&authority) };
    let rabbit = PrivateRabbit::start_with(&options).await.unwrap();
    let consumer = Consumer::start(&rabbit).await.unwrap();
    publish(&rabbit, b"sealed").await;
    consumer.until(|messages| messages.len() == 1).await.unwrap();
}

fn bucket(s3: &PrivateS3, secret: &str) -> AmazonS3 {
    let builder = AmazonS3Builder::new().with_endpoint(s3.url()).with_allow_http(true);
    let builder = builder.with_bucket_name(s3::BUCKET).with_region(s3::REGION);
    let builder = builder.with_access_key_id(s3::ACCESS_KEY).with_secret_access_key(secret);
    let retries = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    builder.with_retry(retries).build().unwrap()
}

#[tokio::test]
async fn the_s3_server_checks_signatures_and_keeps_objects() {
    let s3 = PrivateS3::start().await.unwrap();
    let path = object_store::path::Path::from("uploads/a");
    let store = bucket(&s3, s3::SECRET_KEY);
    store.put(&path, "content".into()).await.unwrap();
    bucket(&s3, "another").put(&path, "forged".into()).await.unwrap_err();
    s3.process().kill().unwrap();
    store.get(&path).await.unwrap_err();
    s3.restart().await.unwrap();
    let content = store.get(&path).await.unwrap().bytes().await.unwrap();
    assert_eq!(content, "content");
    assert_eq!(s3.objects("uploads").unwrap(), ["uploads/a"]);
}

/// An instance that is ready while it says so, and answers with its name.
async fn instance(name: &'static str, ready: Arc<AtomicBool>) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let health = move || {
        let ready = ready.load(Ordering::Relaxed);
        async move { if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE } }
    };
    let router = axum::Router::new()
        .route("/health/ready", axum::routing::get(health))
        .route("/name", axum::routing::any(move || async move { name }));
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

#[tokio::test]
async fn haproxy_leads_to_instances_that_are_ready() {
    let ready = [true, true].map(|it| Arc::new(AtomicBool::new(it)));
    let instances =
        [instance("a", Arc::clone(&ready[0])).await, instance("b", Arc::clone(&ready[1])).await];
    let haproxy = PrivateHaproxy::start(&instances).await.unwrap();
    haproxy.until_up(2).await.unwrap();
    ready[0].store(false, Ordering::Relaxed);
    haproxy.until_up(1).await.unwrap();
    let client = reqwest::Client::new();
    for _ in 0..4 {
        let answer = client.post(format!("{}/name", haproxy.url())).send().await.unwrap();
        assert_eq!(answer.text().await.unwrap(), "b");
    }
    ready[0].store(true, Ordering::Relaxed);
    haproxy.until_up(2).await.unwrap();
    haproxy.process().kill().unwrap();
    client.get(format!("{}/name", haproxy.url())).send().await.unwrap_err();
    haproxy.restart().await.unwrap();
    haproxy.until_up(2).await.unwrap();
}

/// Where a test process that is about to be killed writes what it has started.
const HOLD: &str = "DISPATCHER_TESTS_HOLD";

/// All services at once. On its own this test only shows that they do not disturb each other;
/// [`nothing_survives_a_killed_test_process`] runs it in a process that it kills.
#[tokio::test]
async fn all_services_side_by_side() {
    let redis = PrivateRedis::start().await.unwrap();
    let (rabbit, s3) = tokio::join!(PrivateRabbit::start(), PrivateS3::start());
    let (rabbit, s3) = (rabbit.unwrap(), s3.unwrap());
    let haproxy = PrivateHaproxy::start(&[([127, 0, 0, 1], 9).into()]).await.unwrap();
    let all = [redis.process(), rabbit.process(), s3.process(), haproxy.process()];
    let line = |it: &&Guarded| {
        format!("{} {}\n", it.pid().unwrap().as_raw_nonzero(), it.directory().display())
    };
    let lines: String = all.iter().map(line).collect();
    let Ok(file) = std::env::var(HOLD) else { return };
    std::fs::write(format!("{file}.new"), lines).unwrap();
    std::fs::rename(format!("{file}.new"), file).unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn nothing_survives_a_killed_test_process() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("started");
    let mut process = tokio::process::Command::new(std::env::current_exe().unwrap());
    process.args(["--exact", "services::all_services_side_by_side", "--nocapture"]);
    let mut process = process.env(HOLD, &file).kill_on_drop(true).spawn().unwrap();
    until("everything is started", || file.exists()).await;
    let started = std::fs::read_to_string(&file).unwrap();
    let started: Vec<(Pid, PathBuf)> = started
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(pid, path)| (Pid::from_raw(pid.parse().unwrap()).unwrap(), path.into()))
        .collect();
    assert!(started.iter().all(|(pid, path)| !is_gone(*pid) && path.exists()));
    process.kill().await.unwrap();
    let gone = || started.iter().all(|(pid, path)| is_gone(*pid) && !path.exists());
    let paths: Vec<_> = started.iter().map(|(_, path)| path.display().to_string()).collect();
    until("everything is gone", || gone() && processes_naming(&paths).is_empty()).await;
}

/// Looks until something is so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let looking = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Command lines and environments of living processes that name one of these directories.
fn processes_naming(paths: &[String]) -> Vec<String> {
    let read = |process: &Path, file: &str| {
        let bytes = std::fs::read(process.join(file)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', " ")
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let process = entry.path();
        let text = format!("{} {}", read(&process, "cmdline"), read(&process, "environ"));
        if paths.iter().any(|path| text.contains(path.as_str())) {
            found.push(text);
        }
    }
    found
}

async fn json_of(url: String) -> Option<Value> {
    reqwest::get(url).await.ok()?.error_for_status().ok()?.json().await.ok()
}

#[tokio::test]
async fn the_issuer_shows_the_keys_that_it_signs_with() {
    let issuer = Issuer::start().unwrap();
    issuer.add_key("key-2", Algorithm::Es256).unwrap();
    issuer.add_key("key-3", Algorithm::EdDsa).unwrap();
    for style in [PathStyle::Plain, PathStyle::Auth] {
        issuer.set_style(style);
        let discovery = format!("{}/.well-known/openid-configuration", issuer.issuer());
        let discovery = json_of(discovery).await.unwrap();
        assert_eq!(discovery["issuer"], issuer.issuer());
        let keys = json_of(discovery["jwks_uri"].as_str().unwrap().to_owned()).await.unwrap();
        let keys: JwkSet = serde_json::from_value(keys).unwrap();
        for kid in ["key-1", "key-2", "key-3"] {
            let token = issuer.key(kid).unwrap().token(&issuer.claims(&json!({}))).unwrap();
            let header = jsonwebtoken::decode_header(&token).unwrap();
            let key = DecodingKey::from_jwk(keys.find(kid).unwrap()).unwrap();
            let mut rules = Validation::new(header.alg);
            rules.set_audience(&[oidc::AUDIENCE]);
            rules.set_issuer(&[issuer.issuer()]);
            let claims = jsonwebtoken::decode::<Value>(&token, &key, &rules).unwrap().claims;
            assert_eq!(claims["preferred_username"], "ada");
        }
    }
    assert_eq!(issuer.requests().discovery, 2);
    let keys = format!("{}/protocol/openid-connect/certs", issuer.issuer());
    issuer.rotate("key-4").unwrap();
    assert_eq!(json_of(keys.clone()).await.unwrap()["keys"].as_array().unwrap().len(), 1);
    issuer.down();
    assert!(json_of(keys.clone()).await.is_none());
    issuer.up().unwrap();
    assert!(json_of(keys.clone()).await.is_some());
    issuer.set_mode(Mode::Failing);
    assert!(json_of(keys).await.is_none());
    assert_eq!(issuer.requests().keys, 5);
}

#[tokio::test]
async fn a_device_gets_its_token_when_somebody_agrees() {
    let issuer = Issuer::start().unwrap();
    let post = async |path: &str, body: String| {
        let url = format!("{}/protocol/openid-connect/{path}", issuer.issuer());
        let kind = ("content-type", "application/x-www-form-urlencoded");
        let request = reqwest::Client::new().post(url).header(kind.0, kind.1).body(body);
        request.send().await.unwrap().json::<Value>().await.unwrap()
    };
    issuer.set_device_times(0, 600);
    let begun = post("auth/device", "client_id=cli&scope=openid".to_owned()).await;
    let poll = format!(
        "client_id=cli&device_code={}&grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code",
        begun["device_code"].as_str().unwrap()
    );
    assert_eq!(post("token", poll.clone()).await["error"], "authorization_pending");
    let code = begun["user_code"].as_str().unwrap();
    assert_eq!(issuer.user_codes(), [code]);
    issuer.approve(code, &json!({ "org_id": "7" })).unwrap();
    let token = post("token", poll.clone()).await["access_token"].as_str().unwrap().to_owned();
    let claims = jsonwebtoken::dangerous::insecure_decode::<Value>(&token).unwrap().claims;
    assert_eq!(claims["org_id"], "7");
    assert_eq!(post("token", poll).await["error"], "invalid_grant");

    issuer.set_device_times(60, 600);
    let begun = post("auth/device", "client_id=cli".to_owned()).await;
    let poll = format!(
        "client_id=cli&device_code={}&grant_type=urn:ietf:params:oauth:grant-type:device_code",
        begun["device_code"].as_str().unwrap()
    );
    assert_eq!(post("token", poll.clone()).await["error"], "authorization_pending");
    assert_eq!(post("token", poll).await["error"], "slow_down");
}
