//! The real binary in the environment and with the command line of Playbook Dispatcher: every setting
//! is accepted, every verb ends as it does there, and its probes answer.

use std::{path::Path, process::Stdio, time::Duration, time::Instant};

use dispatcher_tests::{
    ports,
    postgres::{Database, PrivatePostgres},
    process::{PATIENCE, SECRET_KEYS, Service, binary},
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;

/// Settings of the original that decide something here, each with a value it is really given.
const MEANT: &[(&str, &str)] = &[
    ("BUILD_COMMIT", "0a1b2c3"),
    ("LOG_LEVEL", "debug"),
    ("DEMO_MODE", "False"),
    ("HTTP_MAX_BODY_SIZE", "512KB"),
    ("WEB_PORT", "8000"),
    ("METRICS_PORT", "9000"),
    ("METRICS_PATH", "/metrics"),
    ("DB_HOST", "localhost"),
    ("DB_PORT", "5432"),
    ("DB_NAME", "insights"),
    ("DB_USERNAME", "insights"),
    ("DB_PASSWORD", "insights"),
    ("DB_SSLMODE", "disable"),
    ("DB_MAX_IDLE_CONNECTIONS", "10"),
    ("DB_MAX_OPEN_CONNECTIONS", "20"),
    ("STORAGE_MAX_CONCURRENCY", "5"),
    ("ARTIFACT_MAX_SIZE", "3145728"),
    ("ARTIFACT_TRUNCATE_STDOUT_FIELD_AFTER_LINES", "500"),
    ("ARTIFACT_MAX_STDOUT_FIELD_SIZE", "1024"),
    ("ARTIFACT_MAX_KAFKA_MESSAGE_SIZE", "1048576"),
    ("SATELLITE_RESPONSE_FULL", "0"),
    ("CLOUD_CONNECTOR_IMPL", "impl"),
    ("CLOUD_CONNECTOR_HOST", "cloud-connector"),
    ("CLOUD_CONNECTOR_PORT", "8080"),
    ("CLOUD_CONNECTOR_SCHEME", "http"),
    ("CLOUD_CONNECTOR_TIMEOUT", "10"),
    ("CLOUD_CONNECTOR_CLIENT_ID", "playbook-dispatcher"),
    ("CLOUD_CONNECTOR_PSK", "s3cret"),
    ("CLOUD_CONNECTOR_RPS", "100"),
    ("CLOUD_CONNECTOR_REQ_BUCKET", "60"),
    ("RETURN_URL", "https://cloud.redhat.com/api/ingress/v1/upload"),
    ("RESPONSE_INTERVAL", "30"),
    ("WEB_CONSOLE_URL_DEFAULT", "https://console.redhat.com"),
    ("RBAC_IMPL", "impl"),
    ("RBAC_HOST", "rbac"),
    ("RBAC_PORT", "8080"),
    ("RBAC_SCHEME", "http"),
    ("RBAC_TIMEOUT", "10"),
    ("INVENTORY_CONNECTOR_IMPL", "impl"),
    ("INVENTORY_CONNECTOR_HOST", "localhost"),
    ("INVENTORY_CONNECTOR_PORT", "4000"),
    ("INVENTORY_CONNECTOR_SCHEME", "http"),
    ("INVENTORY_CONNECTOR_TIMEOUT", "10"),
    ("INVENTORY_CONNECTOR_ORDERED_BY", "display_name"),
    ("INVENTORY_CONNECTOR_ORDERED_HOW", "ASC"),
    ("SOURCES_IMPL", "impl"),
    ("SOURCES_HOST", "sources"),
    ("SOURCES_PORT", "8080"),
    ("SOURCES_SCHEME", "http"),
    ("SOURCES_TIMEOUT", "10"),
    ("TENANT_TRANSLATOR_IMPL", "impl"),
    ("TENANT_TRANSLATOR_HOST", "localhost"),
    ("TENANT_TRANSLATOR_PORT", "8892"),
    ("TENANT_TRANSLATOR_SCHEME", "http"),
    ("TENANT_TRANSLATOR_TIMEOUT", "10"),
    ("BLOCKLIST_ORG_IDS", "1,2"),
];

/// Those whose default is the original's, whatever they are set to above.
const DEFAULTS: &[(&str, &str)] = &[
    ("BUILD_COMMIT", "unknown"),
    ("DEMO_MODE", "false"),
    ("HTTP_MAX_BODY_SIZE", "512KB"),
    ("WEB_PORT", "8000"),
    ("METRICS_PORT", "9001"),
    ("METRICS_PATH", "/metrics"),
    ("DB_PORT", "5432"),
    ("DB_MAX_IDLE_CONNECTIONS", "10"),
    ("DB_MAX_OPEN_CONNECTIONS", "20"),
    ("STORAGE_MAX_CONCURRENCY", "5"),
    ("ARTIFACT_MAX_SIZE", "1048576"),
    ("ARTIFACT_TRUNCATE_STDOUT_FIELD_AFTER_LINES", "500"),
    ("ARTIFACT_MAX_STDOUT_FIELD_SIZE", "1024"),
    ("ARTIFACT_MAX_KAFKA_MESSAGE_SIZE", "1048576"),
    ("SATELLITE_RESPONSE_FULL", "true"),
    ("CLOUD_CONNECTOR_HOST", "cloud-connector"),
    ("CLOUD_CONNECTOR_PORT", "8080"),
    ("CLOUD_CONNECTOR_SCHEME", "http"),
    ("CLOUD_CONNECTOR_TIMEOUT", "10"),
    ("CLOUD_CONNECTOR_CLIENT_ID", "playbook-dispatcher"),
    ("CLOUD_CONNECTOR_RPS", "100"),
    ("CLOUD_CONNECTOR_REQ_BUCKET", "60"),
    ("RESPONSE_INTERVAL", "600"),
    ("RBAC_HOST", "rbac"),
    ("RBAC_PORT", "8080"),
    ("RBAC_SCHEME", "http"),
    ("RBAC_TIMEOUT", "10"),
    ("INVENTORY_CONNECTOR_HOST", "localhost"),
    ("INVENTORY_CONNECTOR_PORT", "4000"),
    ("INVENTORY_CONNECTOR_SCHEME", "http"),
    ("INVENTORY_CONNECTOR_TIMEOUT", "10"),
    ("INVENTORY_CONNECTOR_ORDERED_BY", "display_name"),
    ("INVENTORY_CONNECTOR_ORDERED_HOW", "ASC"),
    ("SOURCES_HOST", "sources"),
    ("SOURCES_PORT", "8080"),
    ("SOURCES_SCHEME", "http"),
    ("SOURCES_TIMEOUT", "10"),
    ("TENANT_TRANSLATOR_HOST", "localhost"),
    ("TENANT_TRANSLATOR_PORT", "8892"),
    ("TENANT_TRANSLATOR_SCHEME", "http"),
    ("TENANT_TRANSLATOR_TIMEOUT", "10"),
    // Whoever is outside is off until named, and so is what the original mocks.
    ("CLOUD_CONNECTOR_IMPL", ""),
    ("RBAC_IMPL", ""),
    ("INVENTORY_CONNECTOR_IMPL", ""),
    ("SOURCES_IMPL", ""),
    ("TENANT_TRANSLATOR_IMPL", ""),
    ("BLOCKLIST_ORG_IDS", ""),
];

/// Settings of the original that decide nothing here; their values are nobody's business.
const MEANINGLESS: &str = "
    ACG_CONFIG DEFAULT_RUN_TIMEOUT INVENTORY_CONNECTOR_LIMIT INVENTORY_CONNECTOR_OFFSET
    KAFKA_AUTO_COMMIT_INTERVAL_MS KAFKA_AUTO_OFFSET_RESET KAFKA_BOOTSTRAP_SERVERS KAFKA_CAPATH
    KAFKA_GROUP_ID KAFKA_MESSAGE_SEND_MAX_RETRIES KAFKA_REQUEST_REQUIRED_ACKS
    KAFKA_RETRY_BACKOFF_MS KAFKA_SASL_MECHANISM KAFKA_SASL_PASSWORD KAFKA_SASL_PROTOCOL
    KAFKA_SASL_USERNAME KAFKA_TIMEOUT KESSEL_AUTH_CLIENT_ID KESSEL_AUTH_CLIENT_SECRET
    KESSEL_AUTH_ENABLED KESSEL_AUTH_MODE KESSEL_AUTH_OIDC_ISSUER KESSEL_ENABLED KESSEL_INSECURE
    KESSEL_PRINCIPAL_DOMAIN KESSEL_TOKEN_MAX_RETRIES KESSEL_TOKEN_TIMEOUT KESSEL_URL
    LOG_CW_ACCESSKEYID LOG_CW_FLUSHINTERVAL LOG_CW_GROUP LOG_CW_REGION LOG_CW_SECRETACCESSKEY
    MIGRATIONS_DIR SCHEMA_API_PRIVATE SCHEMA_MESSAGE_RESPONSE SCHEMA_RHCSAT_EVENT
    SCHEMA_RUNNER_EVENT SCHEMA_SATMESSAGE_RESPONSE STORAGE_RETRIES STORAGE_TIMEOUT TOPIC_UPDATES
    TOPIC_VALIDATION_REQUEST TOPIC_VALIDATION_RESPONSE UNLEASH_API_TOKEN UNLEASH_APP_NAME
    UNLEASH_ENABLED UNLEASH_ENVIRONMENT UNLEASH_URL";

/// What we need beside the original's own.
const OURS: [(&str, &str); 4] = [
    ("STORE_ENGINE", "file"),
    ("STORE_FILE_PATH", "/nonexistent/objects"),
    ("PUBLIC_URL", "https://dispatcher.example"),
    ("DISPATCHER_SECRET_KEYS", SECRET_KEYS),
];

/// How a command ends, and everything it says.
async fn ended(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String) {
    let output = Command::new(binary("dispatcher-api").unwrap())
        .args(arguments)
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, output).await.unwrap().unwrap();
    let both = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code(), both)
}

fn line(text: &str, name: &str) -> String {
    let begin = format!("{name}=");
    let found = text.lines().find(|line| line.starts_with(&begin));
    found.unwrap_or_else(|| panic!("{name} is not shown:\n{text}")).to_owned()
}

#[tokio::test]
async fn every_setting_of_the_original_is_accepted_and_has_its_default() {
    let meaningless: Vec<(&str, &str)> =
        MEANINGLESS.split_whitespace().map(|name| (name, "anything at all")).collect();
    let keys = [("PSK_AUTH_CONFIG_MANAGER", "xwKhCUzgJ8"), ("PSK_AUTH_EMPTY", "")];
    let all = [MEANT, &OURS, &meaningless, &keys].concat();
    let (code, text) = ended(&["config"], &all).await;
    assert_eq!(code, Some(0), "{text}");
    for (name, value) in MEANT {
        let secret = ["DB_PASSWORD", "CLOUD_CONNECTOR_PSK"].contains(name);
        let value = if secret { "***" } else { value };
        assert_eq!(line(&text, name), format!("{name}={value}  # {name}"));
    }
    assert!(text.contains("# PSK_AUTH_CONFIG_MANAGER\n"), "an empty key is none: {text}");

    let database = [("DATABASE_URL", "sqlite:/nonexistent/database")];
    let (code, text) = ended(&["config"], &[&OURS[..], &database].concat()).await;
    assert_eq!(code, Some(0), "{text}");
    for (name, value) in DEFAULTS {
        assert_eq!(line(&text, name), format!("{name}={value}  # default"));
    }
}

/// `serve` on SQLite in this directory.
async fn started(directory: &Path, variables: &[(&str, &str)]) -> Service {
    let database = format!("sqlite:{}", directory.join("database").display());
    Service::serve(directory, &database, variables).await.unwrap()
}

#[tokio::test]
async fn what_means_nothing_here_is_named_at_the_start_and_never_shown() {
    let directory = tempfile::tempdir().unwrap();
    let mut variables: Vec<(&str, &str)> =
        MEANINGLESS.split_whitespace().map(|name| (name, "hunter2")).collect();
    variables.extend([("CLOUD_CONNECTOR_IMPL", "mock"), ("DEMO_MODE", "1")]);
    let mut service = started(directory.path(), &variables).await;
    service.stop().await.unwrap();
    let log = std::fs::read_to_string(directory.path().join("service.log")).unwrap();
    let said = log.lines().find(|line| line.contains("have no meaning here"));
    let said = said.unwrap_or_else(|| panic!("{log}"));
    for name in MEANINGLESS.split_whitespace() {
        assert!(said.contains(name), "{name} is not named: {said}");
    }
    for loud in ["CLOUD_CONNECTOR_IMPL=mock", "DEMO_MODE: "] {
        assert!(log.contains(loud), "{loud} is not said:\n{log}");
    }
    assert!(!log.contains("hunter2"), "{log}");
}

#[tokio::test]
async fn a_signal_is_success_and_a_fatal_error_is_one() {
    for signal in [Signal::TERM, Signal::INT] {
        let directory = tempfile::tempdir().unwrap();
        let mut service = started(directory.path(), &[]).await;
        let pid = i32::try_from(service.pid().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
        assert_eq!(service.exited().await.unwrap().code(), Some(0), "{signal:?}");
    }
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let listen = format!("tcp:{}", taken.local_addr().unwrap());
    let metrics = taken.local_addr().unwrap().port().to_string();
    let directory = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", directory.path().display());
    let objects = directory.path().join("objects").display().to_string();
    let own = [
        &OURS[..],
        &[
            ("STORE_FILE_PATH", objects.as_str()),
            ("DATABASE_URL", database.as_str()),
            ("METRICS_PORT", "0"),
            ("LISTEN", "tcp:127.0.0.1:0"),
        ],
    ]
    .concat();
    for (name, value) in [("LISTEN", listen.as_str()), ("METRICS_PORT", &metrics)] {
        for arguments in [&["run"][..], &["run", "-m", "api"], &["run", "--module", "validator"]] {
            let variables = [&own[..], &[(name, value)]].concat();
            let (code, text) = ended(arguments, &variables).await;
            assert_eq!(code, Some(1), "{text}");
            assert!(text.contains(&metrics), "the port is not named: {text}");
        }
    }
    for arguments in [&["run", "-m", "salad"][..], &["run", "-m", "api", "-m", "salad"]] {
        let (code, text) = ended(arguments, &own).await;
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("unknown module salad"), "{text}");
    }
    let (code, text) = ended(&["run", "-m", "api,response-consumer", "-m", "validator"], &[]).await;
    assert_eq!(code, Some(1));
    assert!(text.contains("DATABASE_URL") && !text.contains("unknown module"), "{text}");
}

#[tokio::test]
async fn every_verb_ends_as_the_originals_do() {
    let database = Database::empty().await.unwrap();
    let own = [("DATABASE_URL", database.url.as_str())];
    for (arguments, said) in [
        (&["migrate", "up"][..], "applied V1__contract_tables"),
        (&["migrate", "up"], "nothing to do"),
        (&["clean"], ""),
        (&["migrate", "down"], "our tables are gone"),
        (&["migrate", "down"], "nothing to do"),
        (&["migrate", "up"], "adopted"),
        (&["migrate", "down-all"], "everything is gone"),
        (&["migrate", "down-all"], "nothing to do"),
        (&["migrate", "down"], "nothing to do"),
    ] {
        let (code, text) = ended(arguments, &own).await;
        assert_eq!(code, Some(0), "{arguments:?}: {text}");
        assert!(text.contains(said), "{arguments:?}: {text}");
    }
    let nowhere = format!("postgres://postgres@localhost:{}/postgres", ports::free().unwrap());
    let nowhere = [("DATABASE_URL", nowhere.as_str()), ("DB_POOL_TIMEOUT", "1")];
    for arguments in [&["clean"][..], &["migrate", "up"], &["migrate", "down-all"]] {
        let (code, text) = ended(arguments, &nowhere).await;
        assert_eq!(code, Some(1), "{arguments:?}: {text}");
    }
    let directory = tempfile::tempdir().unwrap();
    let sqlite = format!("sqlite:{}", directory.path().display());
    for way in ["down", "down-all"] {
        let (code, text) = ended(&["migrate", way], &[("DATABASE_URL", &sqlite)]).await;
        assert_eq!(code, Some(1));
        assert!(text.contains("nothing to go back to"), "{text}");
    }
}

async fn probed(port: u16, path: &str) -> (u16, String, String) {
    let answer = reqwest::get(format!("http://127.0.0.1:{port}{path}")).await.unwrap();
    let kind = answer.headers().get("content-type");
    let kind = kind.map(|kind| kind.to_str().unwrap().to_owned()).unwrap_or_default();
    (answer.status().as_u16(), kind, answer.text().await.unwrap())
}

/// Asks until the probe answers so.
async fn until(port: u16, path: &str, status: u16) -> (u16, String, String) {
    let since = Instant::now();
    loop {
        let found = probed(port, path).await;
        if found.0 == status {
            return found;
        }
        assert!(since.elapsed() < PATIENCE, "{path}: {found:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_answer_while_the_database_is_away_and_say_so() {
    let server = tokio::task::spawn_blocking(PrivatePostgres::start).await.unwrap().unwrap();
    let server = std::sync::Arc::new(server);
    let database = server.empty().await.unwrap();
    let (directory, port) = (tempfile::tempdir().unwrap(), ports::free().unwrap());
    let own = port.to_string();
    let variables = [
        ("METRICS_PORT", own.as_str()),
        ("METRICS_PATH", "/measured"),
        ("LOCAL_WORKER", "false"),
        ("DRAIN_DELAY", "3600"),
    ];
    let service = Service::serve(directory.path(), &database.url, &variables).await.unwrap();
    let well = (200, String::new(), String::new());
    for path in ["/ready", "/live"] {
        assert_eq!(probed(port, path).await, well, "{path}");
    }
    let (status, kind, text) = probed(port, "/measured").await;
    assert_eq!(status, 200);
    assert!(kind.starts_with("text/plain") && text.contains("\n# TYPE "), "{kind} {text}");
    assert_eq!(probed(port, "/metrics").await.0, 404);

    let crashing = std::sync::Arc::clone(&server);
    tokio::task::spawn_blocking(move || crashing.crash()).await.unwrap().unwrap();
    for path in ["/ready", "/live"] {
        let (_, kind, text) = until(port, path, 503).await;
        assert_eq!(kind, "text/plain; charset=utf-8", "{path}");
        assert!(text.starts_with("database: ") && text.ends_with('\n'), "{path}: {text}");
    }
    assert_eq!(probed(port, "/measured").await.0, 200);
    let restarting = std::sync::Arc::clone(&server);
    tokio::task::spawn_blocking(move || restarting.restart()).await.unwrap().unwrap();
    for path in ["/ready", "/live"] {
        assert_eq!(until(port, path, 200).await, well, "{path}");
    }

    let pid = i32::try_from(service.pid().unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    let (_, _, text) = until(port, "/ready", 503).await;
    assert!(text.starts_with("instance: it is draining"), "{text}");
    assert_eq!(probed(port, "/live").await, well);
}
