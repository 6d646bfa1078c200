//! `serve` as a real process on PostgreSQL, with a local worker: runs to their ends, uploads, kills
//! between the steps, and the database going away under a run.

use std::{path::Path, sync::Arc, time::Duration};

use dispatcher_api::{
    keyring::Keyring,
    uploads::token::{self, Bearer},
};
use dispatcher_tests::{
    foreign::{accepted, lines, transcript},
    home::Home,
    ports,
    postgres::PrivatePostgres,
    process::{BASE, PATIENCE, SECRET_KEYS, Service},
};
use dispatcher_wire::{
    RunStatus,
    view::{Page, UploadView},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    faults::killed_at,
    outcomes::{Bench, play, sleepers},
    uploads::survives,
};

/// Between two looks at something that is about to happen.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Looks until something is so.
async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let looking = async {
        while !is_so().await {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("never: {what}"));
}

async fn status_of(service: &Service, path: &str) -> StatusCode {
    service.request(Method::GET, path).send().await.unwrap().status()
}

#[tokio::test]
async fn a_playbook_is_followed_live_to_its_success() {
    let home = Home::postgres().await.unwrap();
    let go = home.path().join("go");
    let bench = Bench::at(home, &[]).await;
    let tasks = format!(
        "- ansible.builtin.debug:\n    msg: hello\n\
         - ansible.builtin.wait_for:\n    path: {}\n    sleep: 1\n\
         - ansible.builtin.debug:\n    msg: goodbye",
        go.display()
    );
    let id = bench.dispatch(play("all", &tasks), json!({})).await;
    let path = format!("{BASE}/runs/{id}/log?follow=true");
    let mut following = bench.service.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(following.headers()["dispatcher-run-status"], "running");
    let mut log = Vec::new();
    while !String::from_utf8_lossy(&log).contains("\"msg\": \"hello\"") {
        let piece = tokio::time::timeout(PATIENCE, following.chunk()).await.unwrap().unwrap();
        log.extend_from_slice(&piece.expect("it says hello before it ends"));
    }
    // It is read while the playbook waits for what comes only now.
    assert_eq!(bench.service.run(id).await.unwrap().status, RunStatus::Running);
    std::fs::write(&go, "").unwrap();
    while let Some(piece) =
        tokio::time::timeout(PATIENCE, following.chunk()).await.unwrap().unwrap()
    {
        log.extend_from_slice(&piece);
    }
    let log = String::from_utf8(log).unwrap();
    assert!(log.contains("\"msg\": \"goodbye\"") && log.ends_with('\n'), "{log}");
    assert_eq!(bench.service.run(id).await.unwrap().status, RunStatus::Success);
    assert_eq!(bench.service.log(id, false).await.unwrap(), log);
    assert_eq!(bench.hosts(id).await, [("localhost".to_owned(), RunStatus::Success, log)]);
    let runs: Value =
        bench.service.get(&format!("{BASE}/runs?filter[status]=success")).await.unwrap();
    assert_eq!(runs["meta"]["total"], 1);
}

#[tokio::test]
async fn canceled_while_running_and_while_waiting() {
    let bench = Bench::at(Home::postgres().await.unwrap(), &[]).await;
    let busy = "- name: busy\n  ansible.builtin.command: sleep 3191";
    let running = bench.dispatch(play("all", busy), json!({})).await;
    bench.printed(running, "TASK [busy]").await;
    let waiting = bench.dispatch(play("all", "- ansible.builtin.ping:"), json!({})).await;
    assert_eq!(bench.service.cancel(waiting).await.unwrap(), 202);
    let (run, log) = bench.service.ended(waiting).await.unwrap();
    assert_eq!((run.status, log.as_str()), (RunStatus::Canceled, ""));

    assert_eq!(bench.service.cancel(running).await.unwrap(), 202);
    let (run, log) = bench.service.ended(running).await.unwrap();
    assert_eq!(run.status, RunStatus::Canceled, "{log}");
    assert_eq!(run.error.unwrap().code, "DISPATCHER_CANCELED");
    assert!(log.ends_with("\nthe run was canceled\n"), "{log}");
    assert_eq!(sleepers(&["3191"]), [""; 0], "left running");
    assert_eq!(bench.service.cancel(running).await.unwrap(), 409);
}

#[tokio::test]
async fn time_is_up_while_waiting() {
    let home = Home::postgres().await.unwrap();
    let marker = home.path().join("must-not-exist");
    let bench = Bench::at(home, &[]).await;
    let busy = "- name: busy\n  ansible.builtin.command: sleep 3192";
    let running = bench.dispatch(play("all", busy), json!({})).await;
    bench.printed(running, "TASK [busy]").await;
    let touch = format!("- ansible.builtin.command: touch {}", marker.display());
    let waiting = bench.dispatch(play("all", &touch), json!({ "timeout": 1 })).await;
    let (run, log) = bench.service.ended(waiting).await.unwrap();
    assert_eq!((run.status, log.as_str()), (RunStatus::Timeout, ""));
    assert_eq!(bench.service.cancel(running).await.unwrap(), 202);
    bench.service.ended(running).await.unwrap();
    // What comes next is executed, and the expired run before it is not.
    let (run, log) = bench.ended(play("all", "- ansible.builtin.ping:"), json!({})).await;
    assert_eq!(run.status, RunStatus::Success, "{log}");
    assert!(!marker.exists(), "an expired run was started");
}

#[tokio::test]
async fn a_foreign_hosts_upload_ends_its_run() {
    let home = Home::postgres().await.unwrap();
    let bench = Bench::at(home, &[("CLOUD_CONNECTOR_IMPL", "mock")]).await;
    let service = &bench.service;
    let foreign = json!({ "recipient": Uuid::new_v4() });
    let item = service.item("https://example.com/site.yml", &foreign);
    let id = service.dispatch(&item, None).await.unwrap();
    let correlation_id = service.run(id).await.unwrap().correlation_id;
    let bearer = Bearer { run_id: id, org_id: service.org_id.clone() };
    let expires = OffsetDateTime::now_utc() + time::Duration::hours(1);
    let token = token::issue(&Keyring::parse(SECRET_KEYS).unwrap(), &bearer, expires);
    let url = format!("{}/api/ingress/v1/upload?token={token}", service.url);
    let following = service.ended(id);
    let uploading = async {
        accepted(&url, &lines(&transcript(correlation_id, &["a", "b"]))).await.unwrap();
    };
    let (ended, ()) = tokio::join!(following, uploading);
    let (run, _) = ended.unwrap();
    assert_eq!(run.status, RunStatus::Success);
    let log = "ok: [a]\nok: [b]\nPLAY RECAP\n";
    let host = |name: &str| (name.to_owned(), RunStatus::Success, log.to_owned());
    assert_eq!(bench.hosts(id).await, [host("a"), host("b")]);
    let uploads: Page<UploadView> = service.get(&format!("{BASE}/uploads")).await.unwrap();
    assert_eq!(uploads.data.len(), 1);
    assert_eq!(uploads.data[0].state, "applied");
}

/// Points of a run at which the two databases could differ: around each commit.
const POINTS: [&str; 6] = [
    "store.create.committed",
    "execution.claim.committed",
    "store.append.commit#3",
    "store.append.committed",
    "worker.spawned",
    "store.finish.committed",
];

async fn killed_at_every(part: usize, of: usize) {
    for point in POINTS.iter().skip(part).step_by(of) {
        killed_at(Home::postgres().await.unwrap(), point).await;
    }
}

#[tokio::test]
async fn killed_between_steps_1() {
    killed_at_every(0, 2).await;
}

#[tokio::test]
async fn killed_between_steps_2() {
    killed_at_every(1, 2).await;
}

#[tokio::test]
async fn killed_between_the_steps_of_an_upload() {
    for point in ["upload.row.committed", "store.apply.committed"] {
        survives(&Home::postgres().await.unwrap(), point).await;
    }
}

/// Numbers that a playbook prints, one a line.
const NUMBERS: std::ops::Range<u32> = 1000..1500;

/// Prints all numbers once it may, leaves `printed`, and ends once it may.
fn printing_playbook(directory: &Path) -> String {
    let file = |name: &str| directory.join(name).display().to_string();
    let tasks = format!(
        "- ansible.builtin.shell: echo executed >> {}\n\
         - ansible.builtin.wait_for:\n    path: {}\n    sleep: 1\n\
         - ansible.builtin.debug:\n    msg: \"{{{{ range({}, {}) | map('string') | list }}}}\"\n\
         - ansible.builtin.command: touch {}\n\
         - ansible.builtin.wait_for:\n    path: {}\n    sleep: 1",
        file("executed"),
        file("print"),
        NUMBERS.start,
        NUMBERS.end,
        file("printed"),
        file("end"),
    );
    play("all", &tasks)
}

fn numbers_of(log: &str) -> Vec<u32> {
    let number = |line: &str| line.trim().strip_prefix('"')?.split('"').next()?.parse().ok();
    log.lines().filter_map(number).collect()
}

#[tokio::test]
async fn a_database_that_goes_away_under_a_run_costs_nothing_of_it() {
    let server = tokio::task::spawn_blocking(PrivatePostgres::start).await.unwrap().unwrap();
    let server = Arc::new(server);
    let home = Home::on(server.empty().await.unwrap()).unwrap();
    let files = home.path().to_owned();
    let touch = |name: &str| std::fs::write(files.join(name), "").unwrap();
    let bench = Bench::at(home, &[("DB_POOL_TIMEOUT", "10")]).await;
    let service = &bench.service;
    let id = bench.dispatch(printing_playbook(&files), json!({})).await;
    bench.printed(id, "TASK [ansible.builtin.wait_for]").await;

    let crashing = Arc::clone(&server);
    tokio::task::spawn_blocking(move || crashing.crash()).await.unwrap().unwrap();
    touch("print");
    until("it prints", async || files.join("printed").exists()).await;
    let path = format!("{BASE}/runs/{id}");
    assert_eq!(status_of(service, &path).await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(status_of(service, "/health/ready").await, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(status_of(service, "/health/live").await, StatusCode::OK);
    let item = service.item("https://example.com/site.yml", &json!({}));
    let request = service.request(Method::POST, "/internal/v2/dispatch").json(&json!([item]));
    let refused: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(refused[0]["code"], 500, "{refused}");

    let restarting = Arc::clone(&server);
    tokio::task::spawn_blocking(move || restarting.restart()).await.unwrap().unwrap();
    until("it is ready", async || status_of(service, "/health/ready").await.is_success()).await;
    assert_eq!(service.run(id).await.unwrap().status, RunStatus::Running);
    touch("end");
    let (run, log) = service.ended(id).await.unwrap();
    assert_eq!(run.status, RunStatus::Success, "{log}");
    assert_eq!(numbers_of(&log), NUMBERS.collect::<Vec<_>>(), "{log}");
    assert_eq!(log.matches("PLAY RECAP").count(), 1, "{log}");
    let executed = std::fs::read_to_string(files.join("executed")).unwrap();
    assert_eq!(executed, "executed\n");
    let hosts = bench.hosts(id).await;
    assert_eq!(hosts, [("localhost".to_owned(), RunStatus::Success, log)]);
    let (run, log) = bench.ended(play("all", "- ansible.builtin.ping:"), json!({})).await;
    assert_eq!(run.status, RunStatus::Success, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn started_before_its_database_it_waits_and_says_so() {
    let home = tempfile::tempdir().unwrap();
    let port = ports::free().unwrap();
    let url = format!("postgres://postgres@localhost:{port}/postgres");
    let client = reqwest::Client::new();
    let ask = async |path: &str| {
        let address = std::fs::read_to_string(home.path().join("address")).ok()?;
        let answer = client.get(format!("http://{address}{path}")).send().await.ok()?;
        Some((answer.status(), answer.text().await.ok()?))
    };
    let meanwhile = async {
        until("it names what is missing", async || {
            ask("/health/ready").await.is_some_and(|(status, text)| {
                status == StatusCode::SERVICE_UNAVAILABLE && text.contains("\"database\"")
            })
        })
        .await;
        assert_eq!(ask("/health/live").await.unwrap().0, StatusCode::OK);
        let (status, text) = ask(&format!("{BASE}/runs")).await.unwrap();
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(text.contains("starting"), "{text}");
        let options = format!("-c listen_addresses=localhost -c port={port}");
        let server =
            tokio::task::spawn_blocking(move || PrivatePostgres::start_with(&options, &[]));
        server.await.unwrap().unwrap()
    };
    let (service, _server) = tokio::join!(Service::serve(home.path(), &url, &[]), meanwhile);
    let mut service = service.unwrap();
    assert_eq!(status_of(&service, &format!("{BASE}/runs")).await, StatusCode::OK);
    service.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_does_not_want_it_stops_the_start() {
    let home = tempfile::tempdir().unwrap();
    let database = PrivatePostgres::shared().await.unwrap().url("nowhere");
    let error = Service::serve(home.path(), &database, &[]).await.err().unwrap().to_string();
    assert!(error.contains("ended with") && error.contains("nowhere"), "{error}");
}
