//! The real binary: starting, refusing to start, and the one drain.

use std::{path::Path, process::Stdio, time::Duration, time::Instant};

use dispatcher_api::store::sqlite;
use dispatcher_tests::{
    postgres::Database,
    process::{PATIENCE, Service, binary},
    rows,
};
use serde_json::Value;
use tokio::process::Command;

async fn output(arguments: &[&str], variables: &[(&str, &str)]) -> (bool, String) {
    let output = Command::new(binary("dispatcher-api").unwrap())
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .output();
    let output = tokio::time::timeout(PATIENCE, output).await.unwrap().unwrap();
    let both = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(both).unwrap())
}

fn terminate(service: &Service) {
    let pid = i32::try_from(service.pid().unwrap()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}

#[tokio::test]
async fn while_draining_requests_are_answered_and_then_it_ends_with_success() {
    let directory = tempfile::tempdir().unwrap();
    let variables = [("DRAIN_DELAY", "3600")];
    let mut service = Service::start_with(directory.path(), &variables).await.unwrap();
    let client = reqwest::Client::new();
    let version = format!("{}/internal/version", service.url);
    let ready = format!("{}/health/ready", service.url);
    assert_eq!(client.get(&ready).send().await.unwrap().status(), 200);
    terminate(&service);
    let signalled = Instant::now();
    // Until the delay is over, health fails and everything else is answered, on connections that
    // are closed after each answer.
    while client.get(&ready).send().await.unwrap().status() != 503 {
        assert!(signalled.elapsed() < PATIENCE, "health does not fail");
    }
    for _ in 0..5 {
        let answer = client.get(&version).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["connection"], "close");
    }
    // A second signal is from somebody in a hurry.
    terminate(&service);
    let status = service.exited().await.unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(client.get(&version).send().await.is_err());
}

#[tokio::test]
async fn it_drains_for_as_long_as_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let variables = [("DRAIN_DELAY", "3")];
    let mut service = Service::start_with(directory.path(), &variables).await.unwrap();
    let signalled = Instant::now();
    terminate(&service);
    let status = service.exited().await.unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(signalled.elapsed() >= Duration::from_secs(3), "{:?}", signalled.elapsed());
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let mut service = Service::start(directory.path()).await.unwrap();
    let idle = tokio::net::TcpStream::connect(service.url.strip_prefix("http://").unwrap());
    let _idle = idle.await.unwrap();
    let stopping = Instant::now();
    service.stop().await.unwrap();
    assert!(stopping.elapsed() < Duration::from_secs(20), "idle connections held it up");
}

#[tokio::test]
async fn standalone_is_ready_quickly_and_announces_itself() {
    let directory = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let service = Service::start(directory.path()).await.unwrap();
    let took = started.elapsed();
    assert!(took < Duration::from_secs(20), "even a debug build starts at once: {took:?}");
    let text = std::fs::read_to_string(directory.path().join("standalone.json")).unwrap();
    let announced: Value = serde_json::from_str(&text).unwrap();
    for member in ["url", "org_id", "recipient", "key_file"] {
        assert!(announced[member].is_string(), "{text}");
    }
    let key_file = Path::new(announced["key_file"].as_str().unwrap());
    let key = std::fs::read_to_string(key_file).unwrap();
    let answer = reqwest::Client::new()
        .get(format!("{}/api/playbook-dispatcher/v1/recipients", service.url))
        .header("authorization", format!("PSK {}", key.trim()))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_taken_directory_and_a_taken_port_are_refused_with_the_cure() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path()).await.unwrap();
    let data = directory.path().to_str().unwrap();
    let second = ["standalone", "--data-dir", data, "--listen", "127.0.0.1:0"];
    let (success, text) = output(&second, &[]).await;
    assert!(!success && text.contains("is in use by another process"), "{text}");

    let other = tempfile::tempdir().unwrap();
    let address = service.url.strip_prefix("http://").unwrap();
    let arguments =
        ["standalone", "--data-dir", other.path().to_str().unwrap(), "--listen", address];
    let (success, text) = output(&arguments, &[]).await;
    assert!(!success && text.contains(address) && text.contains("--listen"), "{text}");

    let (success, text) =
        output(&["standalone", "--data-dir", "/tmp", "--listen", "0.0.0.0:0"], &[]).await;
    assert!(!success && text.contains("loopback only"), "{text}");
}

#[tokio::test]
async fn serve_embeds_nothing_silently() {
    let (success, text) = output(&["serve"], &[]).await;
    assert!(!success, "{text}");
    for name in
        ["DATABASE_URL", "STORE_ENGINE", "STORE_FILE_PATH", "PUBLIC_URL", "DISPATCHER_SECRET_KEYS"]
    {
        assert!(text.contains(name), "{name} is not named: {text}");
    }
    let (success, text) = output(&["run", "-m", "api,salad"], &[]).await;
    assert!(!success && text.contains("unknown module salad"), "{text}");
    for name in ["CLOUD_CONNECTOR_IMPL", "TENANT_TRANSLATOR_IMPL"] {
        let (_, text) = output(&["serve"], &[(name, "salad")]).await;
        assert!(
            text.contains(&format!("{name}=salad is not acceptable; allowed: impl (")),
            "{text}"
        );
    }
}

#[tokio::test]
async fn serve_runs_on_sqlite_when_told_to_and_stops_two_services_with_one_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let (database, objects) = (format!("sqlite:{path}/db"), format!("{path}/objects"));
    let keys = "k1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let variables = [
        ("DATABASE_URL", database.as_str()),
        ("STORE_ENGINE", "file"),
        ("STORE_FILE_PATH", objects.as_str()),
        ("PUBLIC_URL", "https://dispatcher.example"),
        ("DISPATCHER_SECRET_KEYS", keys),
        ("LISTEN", "tcp:127.0.0.1:0"),
        ("METRICS_PORT", "0"),
        ("PSK_AUTH_ONE", "same"),
        ("PSK_AUTH_TWO", "same"),
    ];
    let (success, text) = output(&["serve"], &variables).await;
    assert!(!success && text.contains("services one and two have the same key"), "{text}");

    let (success, text) = output(&["config"], &variables).await;
    assert!(success && text.contains("DISPATCHER_SECRET_KEYS=***"), "{text}");
    assert!(text.contains("PUBLIC_URL=https://dispatcher.example  # PUBLIC_URL"), "{text}");
    let (success, text) = output(&["migrate", "up"], &variables).await;
    assert!(success, "{text}");
    let (success, text) = output(&["clean"], &variables).await;
    assert!(success, "{text}");

    let purge = ["purge", "--runs-older-than", "30d"];
    let (success, text) = output(&[&purge[..], &["--dry-run"]].concat(), &variables).await;
    assert!(success && text.contains("would be removed"), "{text}");
    let (success, text) = output(&purge, &variables).await;
    assert!(success, "{text}");
    // A dry run leaves none.
    let rows = "SELECT group_concat(action || ' by ' || principal_kind) FROM audit";
    let file = directory.path().join("db").join(sqlite::FILE_NAME);
    let asked: String = rows::value(&file, rows).unwrap();
    assert_eq!(asked, "retention.purge by cli");
}

#[tokio::test]
async fn healthcheck_tells_by_its_status() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path()).await.unwrap();
    let url = format!("{}/health/ready", service.url);
    let (success, text) = output(&["healthcheck", "--url", &url], &[]).await;
    assert!(success && text.is_empty(), "{text}");
    drop(service);
    let (success, text) = output(&["healthcheck", "--url", &url], &[]).await;
    assert!(!success && !text.is_empty(), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cleaning_what_cannot_be_cleaned_is_no_success() {
    let database = Database::empty().await.unwrap();
    let foreign = "CREATE TABLE runs (id integer)";
    database.client().await.unwrap().batch_execute(foreign).await.unwrap();
    let variables = [("DATABASE_URL", database.url.as_str())];
    let (success, text) = output(&["clean"], &variables).await;
    assert!(!success && text.contains("neither empty nor known"), "{text}");
}
