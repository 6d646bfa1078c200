//! Connections to PostgreSQL: the six modes of encryption against servers that can and cannot, wrong
//! authorities and names, and several servers of which one takes writes.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use dispatcher_api::{
    config::{
        database::{self, Postgres},
        source::Source,
    },
    recipients::model::Recipient,
    store::{StoreError, Stores, postgres::PostgresStore},
};
use dispatcher_tests::{authority::Authority, ports, postgres::PrivatePostgres, process::PATIENCE};
use rustix::process::{Pid, Signal, kill_process};
use time::OffsetDateTime;
use tokio_postgres::NoTls;
use uuid::Uuid;

const MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];
/// Only encrypted connections from elsewhere.
const ONLY_TLS: &str = "local all all trust\nhostssl all all all trust\n";

/// A server on a port of its own, with the name of a migrated database in it.
struct Bench {
    server: PrivatePostgres,
    port: u16,
    name: String,
    socket: String,
}

impl Bench {
    async fn start(options: &str, files: Vec<(&'static str, String)>) -> Self {
        let port = ports::free().unwrap();
        let options = format!("-c listen_addresses=localhost -c port={port} {options}");
        let server = tokio::task::spawn_blocking(move || {
            let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
            PrivatePostgres::start_with(&options, &files)
        });
        let server = server.await.unwrap().unwrap();
        let socket = format!("{}&port={port}", server.url("postgres").split_once('?').unwrap().1);
        let name = format!("t{}", Uuid::new_v4().simple());
        let bench = Self { server, port, name, socket };
        bench.ask("postgres", &format!("CREATE DATABASE {}", bench.name)).await;
        PostgresStore::migrate(&Postgres::at(bench.local_url(&bench.name))).await.unwrap();
        bench
    }

    async fn encrypted(authority: &Authority, more: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let issued = authority.issue(directory.path(), &["localhost"]).unwrap();
        let read = |path| std::fs::read_to_string(path).unwrap();
        let options = format!("-c ssl=on -c ssl_cert_file=@/crt -c ssl_key_file=@/key {more}");
        let hba = ONLY_TLS.to_owned();
        let files =
            vec![("crt", read(&issued.certificate)), ("key", read(&issued.key)), ("hba", hba)];
        Self::start(&options, files).await
    }

    fn local_url(&self, name: &str) -> String {
        format!("postgres://postgres@/{name}?{}", self.socket)
    }

    /// Asks past the stores, by the socket: whether each first column is true.
    async fn ask(&self, database: &str, sql: &str) -> Vec<String> {
        let (client, connection) =
            tokio_postgres::connect(&self.local_url(database), NoTls).await.unwrap();
        tokio::spawn(connection);
        let rows = client.simple_query(sql).await.unwrap();
        let text = |message: &tokio_postgres::SimpleQueryMessage| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        };
        rows.iter().filter_map(text).collect()
    }

    /// Whether connections of the service are encrypted.
    async fn is_encrypted(&self) -> bool {
        let sql = "SELECT s.ssl FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid)
                   WHERE a.application_name = 'dispatcher-api' AND a.client_addr IS NOT NULL";
        let all = self.ask(&self.name, sql).await;
        assert!(!all.is_empty(), "nobody is connected");
        all.iter().any(|ssl| ssl == "t")
    }

    fn config(&self, host: &str, mode: &str, ca: Option<&Path>) -> Postgres {
        let mut variables = vec![
            ("DB_HOST", host.to_owned()),
            ("DB_PORT", self.port.to_string()),
            ("DB_NAME", self.name.clone()),
            ("DB_USER", "postgres".to_owned()),
            ("DB_SSLMODE", mode.to_owned()),
        ];
        variables.extend(ca.map(|ca| ("DB_CA", ca.display().to_string())));
        configured(&variables)
    }
}

fn configured(variables: &[(&str, String)]) -> Postgres {
    let own = |(name, value): &(&str, String)| ((*name).to_owned(), value.clone());
    let mut source = Source::new(variables.iter().map(own).collect());
    let read = database::read(&mut source);
    source.finish().unwrap();
    match read {
        Some(database::Database::Postgres(postgres)) => postgres,
        other => panic!("{other:?}"),
    }
}

/// Connects, and says whether that is encrypted, or why it does not.
async fn tried(bench: &Bench, config: &Postgres) -> Result<bool, String> {
    match PostgresStore::migrate(config).await {
        Ok(_) => {}
        Err(error) => return Err(error.to_string()),
    }
    let stores = PostgresStore::connect(config).await.map_err(|error| error.to_string())?;
    let encrypted = bench.is_encrypted().await;
    drop(stores);
    // The next look must not see these connections.
    let since = Instant::now();
    let count = "SELECT 1 FROM pg_stat_activity
                 WHERE application_name = 'dispatcher-api' AND client_addr IS NOT NULL";
    while !bench.ask(&bench.name, count).await.is_empty() {
        assert!(since.elapsed() < PATIENCE, "connections stay");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(encrypted)
}

/// What is expected: unencrypted, encrypted, or refused with this text.
type Expected = Result<bool, &'static str>;

async fn table(bench: &Bench, host: &str, ca: Option<&Path>, expected: [Expected; 6]) {
    for (mode, expected) in MODES.into_iter().zip(expected) {
        if mode == "verify-ca" && ca.is_none() {
            continue;
        }
        let got = tried(bench, &bench.config(host, mode, ca)).await;
        match (&got, expected) {
            (Ok(encrypted), Ok(expected)) => assert_eq!(*encrypted, expected, "{mode}"),
            (Err(text), Err(expected)) => assert!(text.contains(expected), "{mode}: {text}"),
            _ => panic!("{mode} to {host}: {got:?}, and not {expected:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn six_modes_with_a_server_that_encrypts() {
    let directory = tempfile::tempdir().unwrap();
    let (right, wrong) = (directory.path().join("right.pem"), directory.path().join("wrong.pem"));
    let authority = Authority::new().unwrap();
    std::fs::write(&right, authority.pem()).unwrap();
    std::fs::write(&wrong, Authority::new().unwrap().pem()).unwrap();
    let bench = Bench::encrypted(&authority, "").await;
    let (plain, tls) = (Ok(false), Ok(true));
    table(&bench, "localhost", Some(&right), [plain, plain, tls, tls, tls, tls]).await;
    let unknown = Err("DB_CA must name the authority");
    table(&bench, "localhost", None, [plain, plain, tls, tls, unknown, unknown]).await;
    table(&bench, "localhost", Some(&wrong), [plain, plain, tls, unknown, unknown, unknown]).await;
    let other = Err("DB_HOST must be a name that the server's certificate has");
    table(&bench, "127.0.0.1", Some(&right), [plain, plain, tls, tls, tls, other]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn six_modes_with_a_server_that_takes_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.pem");
    let authority = Authority::new().unwrap();
    std::fs::write(&ca, authority.pem()).unwrap();
    let bench = Bench::encrypted(&authority, "-c hba_file=@/hba").await;
    let tls = Ok(true);
    let refused = Err("no encryption");
    table(&bench, "localhost", Some(&ca), [refused, tls, tls, tls, tls, tls]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn six_modes_with_a_server_that_cannot() {
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.pem");
    std::fs::write(&ca, Authority::new().unwrap().pem()).unwrap();
    let bench = Bench::start("", Vec::new()).await;
    let (plain, cannot) = (Ok(false), Err("ssl = on"));
    table(&bench, "localhost", Some(&ca), [plain, plain, plain, cannot, cannot, cannot]).await;
    // A socket is never encrypted, and needs not be.
    let url = format!("{}&sslmode=require", bench.local_url(&bench.name));
    PostgresStore::connect(&Postgres::at(url)).await.unwrap();
}

fn recipient() -> Recipient {
    Recipient {
        id: Uuid::new_v4(),
        org_id: "org".to_owned(),
        name: "one".to_owned(),
        key_digest: None,
        last_seen: None,
        created_at: OffsetDateTime::now_utc().truncate_to_microsecond(),
    }
}

/// Writes, and says whether it is found.
async fn written(stores: &Stores) -> Result<bool, StoreError> {
    let own = recipient();
    stores.recipients.register(&own).await?;
    Ok(stores.recipients.find(&[own.id]).await?.contains_key(&own.id))
}

fn both(first: &Bench, second: &Bench) -> Postgres {
    configured(&[(
        "DATABASE_URL",
        format!(
            "postgres://postgres@localhost:{},localhost:{}/{}?target_session_attrs=read-write",
            first.port, second.port, first.name
        ),
    )])
}

async fn two() -> (Bench, Bench) {
    let (first, second) = tokio::join!(Bench::start("", vec![]), Bench::start("", vec![]));
    let rename = format!("ALTER DATABASE {} RENAME TO {}", second.name, first.name);
    second.ask("postgres", &rename).await;
    let second = Bench { name: first.name.clone(), ..second };
    (first, second)
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_writes_is_followed() {
    let (first, second) = two().await;
    let stores = PostgresStore::connect(&both(&first, &second)).await.unwrap();
    assert!(written(&stores).await.unwrap());
    let count = "SELECT count(*) FROM recipients";
    assert_eq!(first.ask(&first.name, count).await, ["1"]);
    // The first becomes a server that takes no writes, under connections that stay open.
    first.ask("postgres", "ALTER SYSTEM SET default_transaction_read_only = on").await;
    first.ask("postgres", "SELECT pg_reload_conf()").await;
    let since = Instant::now();
    while second.ask(&second.name, count).await != ["1"] {
        assert!(written(&stores).await.unwrap(), "no write fails");
        assert!(since.elapsed() < PATIENCE, "it stays with the first");
    }
    // Then the second dies, and the first comes back.
    let server = second.server;
    tokio::task::spawn_blocking(move || server.crash().unwrap()).await.unwrap();
    assert!(written(&stores).await.is_err(), "there is nobody to write to");
    first.ask("postgres", "ALTER SYSTEM RESET default_transaction_read_only").await;
    first.ask("postgres", "SELECT pg_reload_conf()").await;
    let since = Instant::now();
    while !written(&stores).await.is_ok_and(|found| found) {
        assert!(since.elapsed() < PATIENCE, "it does not come back to the first");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_dead_or_frozen_does_not_keep_the_other_from_being_used() {
    let (first, second) = two().await;
    let config = both(&first, &second);
    let pid = Pid::from_raw(first.server.pid().unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    // Whoever waited for the first would wait without end.
    let stores = tokio::time::timeout(PATIENCE, PostgresStore::connect(&config)).await;
    kill_process(pid, Signal::CONT).unwrap();
    assert!(written(&stores.unwrap().unwrap()).await.unwrap());
    assert_eq!(second.ask(&second.name, "SELECT count(*) FROM recipients").await, ["1"]);
    let server = first.server;
    tokio::task::spawn_blocking(move || server.crash().unwrap()).await.unwrap();
    let stores = PostgresStore::connect(&config).await.unwrap();
    assert!(written(&stores).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_there_and_nobody_welcome_are_told_apart() {
    let port = ports::free().unwrap();
    let url = format!("postgres://u:hunter2@localhost:{port}/d");
    let error = PostgresStore::migrate(&Postgres::at(url)).await.unwrap_err().to_string();
    assert!(error.contains("unavailable") && error.contains(&port.to_string()), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
    let bench = Bench::start("", Vec::new()).await;
    let url = format!("postgres://postgres@localhost:{}/nowhere", bench.port);
    let error = PostgresStore::migrate(&Postgres::at(url)).await.unwrap_err().to_string();
    assert!(error.contains("failed") && error.contains("nowhere"), "{error}");
}
