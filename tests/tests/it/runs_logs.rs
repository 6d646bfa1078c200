//! Single runs and their logs over the real router: why a run waits, slices from any byte, and
//! followers that get every line as it is printed.

use std::time::{Duration, Instant};

use dispatcher_api::{
    connector::mock::MockConnector,
    runs::model::{NewRoute, NewRun, NewRunHost},
};
use dispatcher_tests::{
    process::{BASE, PATIENCE},
    rows,
    service::{InProcess, KEY, new_run},
    worker::{self, ScriptedWorker},
};
use dispatcher_wire::execution::ClaimedRun;
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use uuid::Uuid;

/// A run that its worker has started.
async fn started(service: &InProcess) -> (ScriptedWorker, ClaimedRun) {
    let worker = service.worker().await.unwrap();
    worker.wait(0).await.unwrap();
    service.create(new_run(worker.recipient)).await.unwrap();
    let run = worker.claimed().await.unwrap();
    worker.append(&run, 0, &[worker::start(&run)]).await.unwrap();
    (worker, run)
}

async fn get(service: &InProcess, path: &str) -> Response {
    service.request(Method::GET, &format!("{BASE}/runs/{path}")).send().await.unwrap()
}

async fn text(service: &InProcess, path: &str) -> String {
    let answer = get(service, path).await;
    assert_eq!(answer.status(), StatusCode::OK);
    answer.text().await.unwrap()
}

/// The next piece of a streamed answer.
async fn piece(answer: &mut Response) -> Option<String> {
    let piece = tokio::time::timeout(PATIENCE, answer.chunk()).await.unwrap().unwrap();
    piece.map(|piece| String::from_utf8(piece.to_vec()).unwrap())
}

#[tokio::test]
async fn a_waiting_run_says_why() {
    let service = InProcess::start().await.unwrap();
    let worker = service.worker().await.unwrap();
    let first = service.create(new_run(worker.recipient)).await.unwrap();
    let second = service.create(new_run(worker.recipient)).await.unwrap();
    let reason = async |id: Uuid| {
        let run: Value = get(&service, &id.to_string()).await.json().await.unwrap();
        assert_eq!(run["status"], "running");
        run["pending_reason"].as_str().map(str::to_owned)
    };
    assert!(reason(first).await.unwrap().ends_with("its worker was never seen"));
    worker.wait(0).await.unwrap();
    assert_eq!(reason(first).await.unwrap(), "waiting to be claimed");
    let run = worker.claimed().await.unwrap();
    assert_eq!(run.run_id, first);
    assert!(reason(first).await.unwrap().ends_with("is preparing it"));
    worker.append(&run, 0, &[worker::start(&run)]).await.unwrap();
    assert_eq!(reason(first).await, None);
    assert!(reason(second).await.unwrap().ends_with(&format!("is busy with run {first}")));
    rows::change(&service.database(), "UPDATE recipients SET last_seen = 0").unwrap();
    assert!(reason(second).await.unwrap().ends_with("was last seen 1970-01-01T00:00:00Z"));
}

#[tokio::test]
async fn a_log_is_read_from_any_byte() {
    let service = InProcess::start().await.unwrap();
    let (worker, run) = started(&service).await;
    let id = run.run_id;
    worker.append(&run, 1, &[worker::printed("a", "zwölf")]).await.unwrap();
    worker.append(&run, 2, &[worker::printed("a", "two")]).await.unwrap();
    assert_eq!(text(&service, &format!("{id}/log")).await, "zwölf\ntwo\n");
    assert_eq!(text(&service, &format!("{id}/log?from=8")).await, "wo\n");
    assert_eq!(text(&service, &format!("{id}/log?from=99")).await, "");
    assert_eq!(text(&service, &format!("{id}/hosts/a/log?from=7&follow=false")).await, "two\n");

    let answer = get(&service, &format!("{id}/log?from=3")).await;
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(header("dispatcher-log-start"), "3");
    assert_eq!(header("dispatcher-run-status"), "running");
    let cut = answer.bytes().await.unwrap();
    assert_eq!(cut.as_ref(), &"zwölf\ntwo\n".as_bytes()[3..], "as stored, cut or not");

    worker.append(&run, 3, &[worker::stats(&["a"], &[])]).await.unwrap();
    worker.finish(&run, 4).await.unwrap();
    let answer = get(&service, &format!("{id}/log?follow=true")).await;
    assert_eq!(answer.headers()["dispatcher-run-status"], "success");
    assert_eq!(answer.text().await.unwrap(), "zwölf\ntwo\n");
}

#[tokio::test]
async fn what_is_not_there_and_what_is_no_position() {
    let service = InProcess::start().await.unwrap();
    let (worker, run) = started(&service).await;
    worker.append(&run, 1, &[worker::printed("a", "x")]).await.unwrap();
    let id = run.run_id;
    let unknown = Uuid::new_v4();
    for (path, status, code) in [
        (format!("{unknown}"), 404, "run_not_found"),
        ("not-an-id".to_owned(), 404, "run_not_found"),
        (format!("{unknown}/log"), 404, "run_not_found"),
        (format!("{id}/hosts/b/log"), 404, "host_not_found"),
        (format!("{id}/hosts/a%00/log"), 404, "host_not_found"),
        (format!("{id}/log?from=x"), 400, "invalid_from"),
        (format!("{id}/log?from=-1"), 400, "invalid_from"),
        (format!("{id}/log?from="), 400, "invalid_from"),
        (format!("{id}/log?from=18446744073709551615"), 400, "invalid_from"),
        (format!("{id}/log?from=1&from=2"), 400, "invalid_from"),
        (format!("{id}/log?follow=yes"), 400, "invalid_follow"),
    ] {
        let answer = get(&service, &path).await;
        assert_eq!(answer.status().as_u16(), status, "{path}");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["error_code"], code, "{path}");
        assert!(!problem["request_id"].as_str().unwrap().is_empty());
    }
    for path in [format!("{id}"), format!("{id}/log"), format!("{id}/hosts/a/log")] {
        let request = reqwest::Client::new()
            .get(format!("{}{BASE}/runs/{path}", service.url))
            .header("authorization", format!("PSK {KEY}"))
            .header("x-dispatcher-org", "other");
        assert_eq!(request.send().await.unwrap().status(), StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn a_follower_gets_each_line_within_a_second_and_ends_with_the_run() {
    let service = InProcess::start().await.unwrap();
    let (worker, run) = started(&service).await;
    let mut following = get(&service, &format!("{}/log?follow=true", run.run_id)).await;
    let mut took = Vec::new();
    for number in 1..=5 {
        let line = format!("line {number}");
        let printed = Instant::now();
        worker.append(&run, number, &[worker::printed("a", &*line)]).await.unwrap();
        assert_eq!(piece(&mut following).await.unwrap(), format!("{line}\n"));
        took.push(printed.elapsed());
    }
    // The one in the middle: one or another a busy machine makes late.
    took.sort();
    assert!(took[2] < Duration::from_secs(1), "{took:?}");
    worker.append(&run, 6, &[worker::stats(&["a"], &[])]).await.unwrap();
    worker.finish(&run, 7).await.unwrap();
    assert_eq!(piece(&mut following).await, None);
}

#[tokio::test]
async fn a_follower_of_a_run_that_is_canceled_while_it_waits_ends() {
    let service = InProcess::start().await.unwrap();
    let worker = service.worker().await.unwrap();
    let id = service.create(new_run(worker.recipient)).await.unwrap();
    let mut following = get(&service, &format!("{id}/log?follow=true")).await;
    let item = serde_json::json!([{ "run_id": id, "org_id": "org-1", "principal": "x" }]);
    let cancel = service.request(Method::POST, "/internal/v2/cancel").json(&item);
    let answer: Value = cancel.send().await.unwrap().json().await.unwrap();
    assert_eq!(answer[0]["code"], 202);
    assert_eq!(piece(&mut following).await, None);
}

#[tokio::test]
async fn followers_of_runs_that_nobody_is_at_end_with_their_time() {
    // Nothing cleans up here: what is stored stays `running`.
    let connector = std::sync::Arc::new(MockConnector);
    let service = InProcess::start_connected(&[], connector).await.unwrap();
    let foreign = NewRun {
        timeout: 1,
        route: NewRoute::CloudConnector,
        hosts: vec![NewRunHost {
            id: Uuid::new_v4(),
            host: "h".to_owned(),
            inventory_id: None,
            subscription_manager_id: None,
        }],
        ..new_run(Uuid::new_v4())
    };
    let foreign = service.create(foreign).await.unwrap();
    rows::change(&service.database(), "UPDATE run_hosts SET log = 'so far'").unwrap();
    let waiting = NewRun { timeout: 1, ..new_run(Uuid::new_v4()) };
    let waiting = service.create(waiting).await.unwrap();
    for (id, printed) in [(foreign, &["so far"][..]), (waiting, &[])] {
        let mut following = get(&service, &format!("{id}/log?follow=true")).await;
        for expected in printed {
            assert_eq!(piece(&mut following).await.unwrap(), *expected);
        }
        assert_eq!(piece(&mut following).await, None);
        let run: Value = get(&service, &id.to_string()).await.json().await.unwrap();
        assert_eq!(run["status"], "timeout");
    }
}

#[tokio::test]
async fn a_follower_of_a_run_that_its_worker_ends_late_gets_everything() {
    let service = InProcess::start().await.unwrap();
    let (worker, run) = started(&service).await;
    rows::change(&service.database(), "UPDATE runs SET timeout = 1").unwrap();
    let mut following = get(&service, &format!("{}/log?follow=true", run.run_id)).await;
    let mut counter = 1;
    // Until the answer says that the time is over.
    while !worker.append(&run, counter, &[worker::printed("a", "on")]).await.unwrap().cancel {
        counter += 1;
        assert_eq!(piece(&mut following).await.unwrap(), "on\n");
    }
    assert_eq!(piece(&mut following).await.unwrap(), "on\n");
    worker.append(&run, counter + 1, &[worker::printed("a", "late")]).await.unwrap();
    assert_eq!(piece(&mut following).await.unwrap(), "late\n");
    worker.finish(&run, counter + 2).await.unwrap();
    assert_eq!(piece(&mut following).await, None);
}

#[tokio::test]
async fn a_follower_ends_with_the_service() {
    let service = InProcess::start().await.unwrap();
    let (worker, run) = started(&service).await;
    worker.append(&run, 1, &[worker::printed("a", "before")]).await.unwrap();
    let mut following = get(&service, &format!("{}/log?follow=true", run.run_id)).await;
    assert_eq!(piece(&mut following).await.unwrap(), "before\n");
    service.app.shutdown.cancel();
    assert_eq!(piece(&mut following).await, None);
}

#[tokio::test]
async fn long_output_comes_whole_in_bounded_pieces() {
    let service = InProcess::start().await.unwrap();
    let (worker, run) = started(&service).await;
    let mut expected = String::new();
    for counter in 1..=20_u64 {
        let line = format!("{counter}:{}", "äx".repeat(50_000));
        expected.push_str(&line);
        expected.push('\n');
        worker.append(&run, counter, &[worker::printed("a", line)]).await.unwrap();
    }
    let log = text(&service, &format!("{}/log", run.run_id)).await;
    assert!(log == expected, "{} of {} bytes", log.len(), expected.len());
    let from = expected.len() - 100;
    let tail = get(&service, &format!("{}/log?from={from}", run.run_id)).await;
    assert_eq!(tail.bytes().await.unwrap().as_ref(), &expected.as_bytes()[from..]);
}

#[tokio::test]
async fn a_foreign_runs_log_is_that_of_its_hosts() {
    let connector = std::sync::Arc::new(MockConnector);
    let service = InProcess::start_connected(&[], connector).await.unwrap();
    let host = |name: &str| NewRunHost {
        id: Uuid::new_v4(),
        host: name.to_owned(),
        inventory_id: None,
        subscription_manager_id: None,
    };
    let hosts = vec![host("b"), host("a/ä")];
    let run = NewRun { route: NewRoute::CloudConnector, hosts, ..new_run(Uuid::new_v4()) };
    let id = service.create(run).await.unwrap();
    let logs = "UPDATE run_hosts SET log = 'log of ' || host";
    rows::change(&service.database(), logs).unwrap();
    assert_eq!(text(&service, &format!("{id}/log")).await, "log of a/ä");
    assert_eq!(text(&service, &format!("{id}/hosts/b/log?from=4")).await, "of b");
    assert_eq!(text(&service, &format!("{id}/hosts/a%2F%C3%A4/log")).await, "log of a/ä");
    rows::change(&service.database(), "UPDATE runs SET status = 'success'").unwrap();
    assert_eq!(text(&service, &format!("{id}/log?follow=true")).await, "log of a/ä");
}
