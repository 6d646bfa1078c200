//! How fast output reaches a follower, and what much of it costs the store.

use std::time::Instant;

use dispatcher_tests::{
    counting::Calls,
    process::BASE,
    service::{InProcess, new_run},
    worker::{self, printed},
};
use dispatcher_wire::{RunStatus, event::RunnerEvent};
use futures_util::StreamExt as _;
use reqwest::Method;

#[tokio::test]
async fn a_line_reaches_a_follower_within_a_second() {
    let service = InProcess::start().await.unwrap();
    let worker = service.worker().await.unwrap();
    service.create(new_run(worker.recipient)).await.unwrap();
    let run = worker.claimed().await.unwrap();
    worker.append(&run, 0, &[worker::start(&run)]).await.unwrap();
    let path = format!("{BASE}/runs/{}/log?follow=true", run.run_id);
    let answer = service.request(Method::GET, &path).send().await.unwrap();
    let mut pieces = answer.error_for_status().unwrap().bytes_stream();
    let mut took = Vec::new();
    for n in 1..=10 {
        let sent = Instant::now();
        let line = format!("line {n}");
        worker.append(&run, n, &[printed("a", line.clone())]).await.unwrap();
        let piece = pieces.next().await.unwrap().unwrap();
        assert_eq!(piece, format!("{line}\n"));
        took.push(sent.elapsed());
    }
    // The one in the middle: one or another a busy machine makes late.
    took.sort();
    assert!(took[5].as_secs_f64() < 1.0, "{took:?}");
    worker.append(&run, 11, &[worker::stats(&["a"], &[])]).await.unwrap();
    worker.finish(&run, 12).await.unwrap();
    assert!(pieces.next().await.is_none(), "the stream ends with the run");
}

/// Lines in one event, events in one request: a task of a thousand lines, 25 such tasks at once.
const LINES: usize = 1000;
const EVENTS: usize = 25;
const REQUESTS: usize = 40;

fn tasks(request: usize) -> Vec<RunnerEvent> {
    let task = |event: usize| {
        let first = (request * EVENTS + event) * LINES;
        let lines: Vec<String> =
            (first..first + LINES).map(|n| format!("line {n:07} of a million")).collect();
        printed("a", lines.join("\n"))
    };
    (0..EVENTS).map(task).collect()
}

#[tokio::test]
async fn a_million_lines_cost_what_they_are_once() {
    let calls = Calls::default();
    let service = InProcess::start_with(&[], |stores| calls.wrap(stores)).await.unwrap();
    let worker = service.worker().await.unwrap();
    service.create(new_run(worker.recipient)).await.unwrap();
    let run = worker.claimed().await.unwrap();
    let mut next = worker.append(&run, 0, &[worker::start(&run)]).await.unwrap().next_counter;
    let begun = Instant::now();
    for request in 0..REQUESTS {
        next = worker.append(&run, next, &tasks(request)).await.unwrap().next_counter;
    }
    next = worker.append(&run, next, &[worker::stats(&["a"], &[])]).await.unwrap().next_counter;
    assert_eq!(worker.finish(&run, next).await.unwrap().status, RunStatus::Success);
    // One call of the store per request, and a sign of life every few seconds.
    assert_eq!(calls.of("append"), REQUESTS + 2);
    assert_eq!((calls.of("claim"), calls.of("finish")), (1, 1));
    let signs = 1 + usize::try_from(begun.elapsed().as_secs()).unwrap() / 5 + 1;
    assert!(calls.of("seen") <= signs, "{} signs of life", calls.of("seen"));

    let printed = "line 0000000 of a million\n".len() * LINES * EVENTS * REQUESTS;
    let database = rusqlite::Connection::open(service.database()).unwrap();
    let one = |sql: &str| database.query_row(sql, [], |row| row.get::<_, usize>(0)).unwrap();
    assert_eq!(one("SELECT sum(length(data)) FROM run_output"), printed);
    assert_eq!(one("SELECT count(*) FROM run_output"), REQUESTS);
    let cap = service.app.settings.execution.host_log_max;
    let copied = one("SELECT length(log) FROM run_hosts");
    assert!(copied <= cap && copied > cap / 2, "{copied} of {cap}");
    let pages = one("PRAGMA page_count") * one("PRAGMA page_size");
    let most = (printed + cap) + (printed + cap) / 20;
    assert!(pages <= most, "{pages} bytes stored for {printed} printed");
}

#[tokio::test]
async fn output_beyond_the_limit_is_dropped_with_a_marker_and_the_run_goes_on() {
    let limit = 65_536;
    let variables = [("RUN_OUTPUT_MAX", "65536")];
    let service = InProcess::start_with(&variables, |stores| stores).await.unwrap();
    let worker = service.worker().await.unwrap();
    let id = service.create(new_run(worker.recipient)).await.unwrap();
    let run = worker.claimed().await.unwrap();
    worker.append(&run, 0, &[worker::start(&run)]).await.unwrap();
    for n in 0..4 {
        worker.append(&run, 1 + n, &[printed("a", "ü".repeat(12_000))]).await.unwrap();
    }
    worker.append(&run, 5, &[worker::stats(&["a"], &[])]).await.unwrap();
    assert_eq!(worker.finish(&run, 6).await.unwrap().status, RunStatus::Success);
    let path = format!("{BASE}/runs/{id}/log");
    let answer = service.request(Method::GET, &path).send().await.unwrap();
    let log = answer.error_for_status().unwrap().text().await.unwrap();
    assert!(log.len() < limit + 200, "{}", log.len());
    assert_eq!(log.matches("[dispatcher: the output limit is reached").count(), 1);
    assert!(log.ends_with("dropped]\n") && !log.contains('\u{FFFD}'));
}
