//! What a worker may do with runs, through HTTP: wait, claim, inputs, append, finish; and what it
//! may not.

use std::time::Instant;

use dispatcher_api::{
    auth::known_workers::KNOWN_FOR,
    recipients::model::Recipient,
    runs::{
        inputs::take_apart,
        model::{CancelOutcome, CancelRequest, NewRoute, NewRun},
    },
};
use dispatcher_tests::{
    counting::Calls,
    process::BASE,
    service::{InProcess, ORG, new_run},
    worker::{self, ScriptedWorker, lines, printed},
};
use dispatcher_wire::{
    RunStatus,
    event::{EXECUTOR_ON_FAILED, EventData, RunnerEvent, error_code},
    execution::{
        CLAIM_HEADER, ClaimedRun, Doorbell, FIRST_COUNTER_HEADER, GapProblem, MAX_EVENTS_BYTES,
    },
    inputs::RunInputs,
    view::{Problem, RunView},
};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

async fn started() -> (InProcess, ScriptedWorker, ClaimedRun) {
    let service = InProcess::start().await.unwrap();
    let worker = service.worker().await.unwrap();
    service.create(new_run(worker.recipient)).await.unwrap();
    let run = worker.claimed().await.unwrap();
    (service, worker, run)
}

async fn view(service: &InProcess, id: Uuid) -> RunView {
    let answer = service.request(Method::GET, &format!("{BASE}/runs/{id}")).send().await.unwrap();
    answer.error_for_status().unwrap().json().await.unwrap()
}

async fn log(service: &InProcess, id: Uuid) -> String {
    let path = format!("{BASE}/runs/{id}/log");
    let answer = service.request(Method::GET, &path).send().await.unwrap();
    answer.error_for_status().unwrap().text().await.unwrap()
}

async fn host_states(service: &InProcess, id: Uuid) -> Vec<(String, String)> {
    let path = format!("{BASE}/run_hosts?filter%5Brun%5D%5Bid%5D={id}");
    let answer = service.request(Method::GET, &path).send().await.unwrap();
    let page: Value = answer.error_for_status().unwrap().json().await.unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let pair = |host: &Value| (text(&host["host"]), text(&host["status"]));
    let mut hosts: Vec<_> = page["data"].as_array().unwrap().iter().map(pair).collect();
    hosts.sort();
    hosts
}

async fn problem(answer: Response) -> (StatusCode, String) {
    let status = answer.status();
    let problem: Problem = answer.json().await.unwrap();
    assert!(!problem.message.is_empty() && !problem.request_id.is_empty(), "{problem:?}");
    (status, problem.error_code)
}

#[tokio::test]
async fn a_run_goes_from_the_bell_to_its_end() {
    let service = InProcess::start().await.unwrap();
    let worker = service.worker().await.unwrap();
    assert_eq!(worker.wait(0).await.unwrap(), Doorbell::default());
    let waiting = tokio::spawn({
        let worker = worker.clone();
        async move { worker.wait(30).await.unwrap() }
    });
    let id = service.create(new_run(worker.recipient)).await.unwrap();
    assert!(waiting.await.unwrap().work);

    let run = worker.claimed().await.unwrap();
    assert_eq!((run.run_id, run.attempt, run.has_inputs), (id, 1, false));
    assert_eq!(run.url, "https://example.com/site.yml");
    let first = worker.append(&run, 0, &[worker::start(&run)]).await.unwrap();
    assert_eq!((first.next_counter, first.cancel), (1, false));
    let events = [printed("web", "hello"), printed("db", "two\nlines")];
    assert_eq!(worker.append(&run, 1, &events).await.unwrap().next_counter, 3);
    assert_eq!(log(&service, id).await, "hello\ntwo\nlines\n");
    let running = |host: &str| (host.to_owned(), "running".to_owned());
    assert_eq!(host_states(&service, id).await, [running("db"), running("web")]);

    worker.append(&run, 3, &[worker::stats(&["web", "db"], &["db"])]).await.unwrap();
    assert_eq!(worker.finish(&run, 4).await.unwrap().status, RunStatus::Failure);
    let view = view(&service, id).await;
    assert_eq!((view.status, view.output_bytes), (RunStatus::Failure, 16));
    let state = |host: &str, state: &str| (host.to_owned(), state.to_owned());
    assert_eq!(host_states(&service, id).await, [state("db", "failure"), state("web", "success")]);
    assert_eq!(worker.wait(0).await.unwrap(), Doorbell::default());
    let recipient = worker.recipient;
    let known = service.app.stores.recipients.find(&[recipient]).await.unwrap();
    assert!(known[&recipient].is_present(OffsetDateTime::now_utc()));
}

#[tokio::test]
async fn repeated_requests_change_nothing() {
    let (service, worker, run) = started().await;
    let records = [worker::start(&run), printed("a", "one"), printed("a", "two")];
    worker.append(&run, 0, &records).await.unwrap();
    assert_eq!(worker.append(&run, 0, &records).await.unwrap().next_counter, 3);
    let overlapping = [printed("a", "two"), printed("b", "three")];
    assert_eq!(worker.append(&run, 2, &overlapping).await.unwrap().next_counter, 4);
    assert_eq!(worker.append(&run, 0, &records[..1]).await.unwrap().next_counter, 4);
    assert_eq!(log(&service, run.run_id).await, "one\ntwo\nthree\n");
    worker.append(&run, 4, &[worker::stats(&["a", "b"], &[])]).await.unwrap();
    for _ in 0..2 {
        assert_eq!(worker.finish(&run, 5).await.unwrap().status, RunStatus::Success);
    }
    let late = worker.append(&run, 5, &[printed("a", "late")]).await.unwrap();
    assert_eq!((late.next_counter, late.cancel), (5, true));
    assert_eq!(log(&service, run.run_id).await, "one\ntwo\nthree\n");
}

#[tokio::test]
async fn missing_records_are_asked_for() {
    let (service, worker, run) = started().await;
    worker.append(&run, 0, &[worker::start(&run)]).await.unwrap();
    let body = lines(&[printed("a", "x")]).unwrap();
    let answers = [
        worker.send(run.run_id, run.claim, 2, body).await.unwrap(),
        worker.send(run.run_id, run.claim, 2, "").await.unwrap(),
        worker.end(&run, 2).await.unwrap(),
    ];
    for answer in answers {
        assert_eq!(answer.status(), StatusCode::CONFLICT);
        let gap: GapProblem = answer.json().await.unwrap();
        assert_eq!((gap.error_code.as_str(), gap.next_counter), ("gap", 1));
        assert!(!gap.request_id.is_empty() && gap.message.contains('1'), "{gap:?}");
    }
    assert_eq!(log(&service, run.run_id).await, "");
    assert!(!view(&service, run.run_id).await.status.is_final());
}

#[tokio::test]
async fn a_run_is_touched_only_under_its_own_claim_by_its_own_recipient() {
    let (service, worker, run) = started().await;
    let other = service.worker().await.unwrap();
    worker.append(&run, 0, &[worker::start(&run)]).await.unwrap();
    let body = lines(&[printed("a", "foreign")]).unwrap();
    let wrong = ClaimedRun { claim: Uuid::new_v4(), ..run.clone() };
    let unknown = ClaimedRun { run_id: Uuid::new_v4(), ..run.clone() };
    let refused = [(&other, &run), (&worker, &wrong), (&worker, &unknown)];
    for (worker, run) in refused {
        let path = format!("runs/{}/inputs", run.run_id);
        let inputs = worker.request(Method::GET, &path).header(CLAIM_HEADER, run.claim.to_string());
        let answers = [
            worker.send(run.run_id, run.claim, 1, body.clone()).await.unwrap(),
            worker.end(run, 1).await.unwrap(),
            inputs.send().await.unwrap(),
        ];
        for answer in answers {
            assert_eq!(problem(answer).await, (StatusCode::CONFLICT, "claim_lost".to_owned()));
        }
    }
    assert!(other.claim().await.unwrap().is_none());
    assert_eq!(log(&service, run.run_id).await, "");
    assert!(!view(&service, run.run_id).await.status.is_final());
    for key in ["", "Bearer ", "Bearer dwk_x_y", "PSK testkey"] {
        let answer = reqwest::Client::new()
            .post(format!("{}{BASE}/execution/claim", service.url))
            .header("authorization", key)
            .send();
        assert_eq!(answer.await.unwrap().status(), StatusCode::UNAUTHORIZED, "{key:?}");
    }
}

#[tokio::test]
async fn hostile_bodies_are_refused_and_change_nothing() {
    let (service, worker, run) = started().await;
    let good = String::from_utf8(lines(&[printed("a", "x")]).unwrap()).unwrap();
    let bad: Vec<Vec<u8>> = vec![
        b"{".to_vec(),
        format!("{good}{{}}\n").into_bytes(),
        [good.as_bytes(), b"\xff\n"].concat(),
        good.replace("\"a\"", "\"a\\u0000\"").into_bytes(),
        good.replace("\"a\"", "7").into_bytes(),
        good.replace("\"a\"", "\"\"").into_bytes(),
        "{}\n".repeat(MAX_EVENTS_BYTES / 3).into_bytes(),
    ];
    for body in bad {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let answer = worker.send(run.run_id, run.claim, 0, body).await.unwrap();
        let expected = (StatusCode::BAD_REQUEST, "invalid_events".to_owned());
        assert_eq!(problem(answer).await, expected, "{shown}");
    }
    let large = vec![b'\n'; MAX_EVENTS_BYTES + 1];
    let answer = worker.send(run.run_id, run.claim, 0, large).await.unwrap();
    let expected = (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large".to_owned());
    assert_eq!(problem(answer).await, expected);
    let answer = worker.send(run.run_id, run.claim, u64::MAX, good.clone()).await.unwrap();
    assert_eq!(problem(answer).await.1, "invalid_events");
    let events = format!("runs/{}/events", run.run_id);
    for (name, value) in [(CLAIM_HEADER, "me"), (FIRST_COUNTER_HEADER, "-1"), ("x-none", "")] {
        let answer =
            worker.request(Method::POST, &events).header(name, value).send().await.unwrap();
        assert_eq!(problem(answer).await.1, "invalid_header", "{name}");
    }
    let answer = worker.request(Method::POST, "execution/wait").body("{}").send().await.unwrap();
    assert_eq!(problem(answer).await.1, "invalid_body");
    let path = "runs/not-a-uuid/finish";
    let answer = worker.request(Method::POST, path).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    assert_eq!(worker.append(&run, 0, &[]).await.unwrap().next_counter, 0);
    assert_eq!(log(&service, run.run_id).await, "");
    assert_eq!(host_states(&service, run.run_id).await, []);
}

#[tokio::test]
async fn nul_in_output_is_shown_as_a_replacement() {
    let (service, worker, run) = started().await;
    worker.append(&run, 0, &[worker::start(&run), printed("a", "x\0y")]).await.unwrap();
    assert_eq!(log(&service, run.run_id).await, "x\u{FFFD}y\n");
    worker.append(&run, 2, &[worker::stats(&["a"], &[])]).await.unwrap();
    worker.finish(&run, 3).await.unwrap();
    assert_eq!(log(&service, run.run_id).await, "x\u{FFFD}y\n");
}

#[tokio::test]
async fn a_cancellation_reaches_the_worker_by_bell_and_by_answer() {
    let (service, worker, run) = started().await;
    worker.append(&run, 0, &[worker::start(&run)]).await.unwrap();
    let waiting = tokio::spawn({
        let worker = worker.clone();
        async move { worker.wait(30).await.unwrap() }
    });
    let request = CancelRequest {
        run_id: run.run_id,
        org_id: ORG.to_owned(),
        principal: "tester".to_owned(),
    };
    let now = OffsetDateTime::now_utc();
    let outcome = service.app.stores.runs.cancel(&[request], now, None).await.unwrap();
    assert!(matches!(outcome[0], CancelOutcome::Requested { .. }), "{outcome:?}");
    assert_eq!(waiting.await.unwrap().cancel, [run.run_id]);
    assert!(worker.append(&run, 1, &[printed("a", "x")]).await.unwrap().cancel);
    let failed = RunnerEvent {
        event: EXECUTOR_ON_FAILED.to_owned(),
        event_data: Some(EventData {
            crc_dispatcher_error_code: Some(error_code::CANCELED.to_owned()),
            crc_dispatcher_error_details: Some("canceled by tester".to_owned()),
            ..EventData::default()
        }),
        ..worker::start(&run)
    };
    worker.append(&run, 2, &[failed]).await.unwrap();
    assert_eq!(worker.finish(&run, 3).await.unwrap().status, RunStatus::Canceled);
    assert_eq!(log(&service, run.run_id).await, "x\n\ncanceled by tester\n");
    let error = view(&service, run.run_id).await.error.unwrap();
    assert_eq!(
        (error.code.as_str(), error.details.as_str()),
        (error_code::CANCELED, "canceled by tester")
    );
}

#[tokio::test]
async fn an_expired_run_is_never_handed_out() {
    let service = InProcess::start().await.unwrap();
    let worker = service.worker().await.unwrap();
    let long_ago = OffsetDateTime::now_utc().truncate_to_microsecond() - Duration::HOUR;
    let expired = NewRun { created_at: long_ago, timeout: 60, ..new_run(worker.recipient) };
    let id = service.create(expired).await.unwrap();
    assert!(!worker.wait(0).await.unwrap().work);
    assert!(worker.claim().await.unwrap().is_none());
    assert_eq!(view(&service, id).await.status, RunStatus::Timeout);
}

#[tokio::test]
async fn one_run_at_a_time_and_the_next_one_rings() {
    let (service, worker, run) = started().await;
    let next = service.create(new_run(worker.recipient)).await.unwrap();
    assert!(worker.claim().await.unwrap().is_none());
    worker.append(&run, 0, &[worker::start(&run)]).await.unwrap();
    let waiting = tokio::spawn({
        let worker = worker.clone();
        async move { worker.wait(30).await.unwrap() }
    });
    assert_eq!(worker.finish(&run, 1).await.unwrap().status, RunStatus::Failure);
    assert!(waiting.await.unwrap().work);
    assert_eq!(worker.claimed().await.unwrap().run_id, next);
}

#[tokio::test]
async fn inputs_and_secrets_go_to_the_holder_and_are_gone_after_the_end() {
    let service = InProcess::start().await.unwrap();
    let worker = service.worker().await.unwrap();
    let inputs: RunInputs = serde_json::from_value(json!({
        "limit": "web", "check": true, "secrets": {"password": "hunter2"},
    }))
    .unwrap();
    let mut new = new_run(worker.recipient);
    let stored = take_apart(&service.app.keyring, new.id, &inputs).unwrap();
    new.route = NewRoute::Worker { inputs: stored.inputs, sealed_secrets: stored.sealed_secrets };
    service.create(new).await.unwrap();
    let run = worker.claimed().await.unwrap();
    assert!(run.has_inputs);
    let path = format!("runs/{}/inputs", run.run_id);
    let ask = || worker.request(Method::GET, &path).header(CLAIM_HEADER, run.claim.to_string());
    let answer = ask().send().await.unwrap().error_for_status().unwrap();
    assert_eq!(answer.headers()["cache-control"], "no-store");
    assert!(answer.json::<RunInputs>().await.unwrap() == inputs);
    worker.append(&run, 0, &[worker::start(&run)]).await.unwrap();
    worker.finish(&run, 1).await.unwrap();
    let answer = ask().send().await.unwrap();
    assert!(!answer.text().await.unwrap().contains("hunter2"));
    let file = std::fs::read(service.database()).unwrap();
    assert!(!file.windows(7).any(|window| window == b"hunter2"));
}

#[tokio::test]
async fn a_lost_claim_is_handed_out_again_only_before_the_start() {
    // The shortest lease the settings allow would be long for a test, so the claim is made in the
    // past, directly.
    let service = InProcess::start().await.unwrap();
    let worker = service.worker().await.unwrap();
    service.create(new_run(worker.recipient)).await.unwrap();
    let now = OffsetDateTime::now_utc().truncate_to_microsecond();
    let lost = dispatcher_api::execution::model::ClaimRequest {
        recipient: worker.recipient,
        claimed_by: "lost".to_owned(),
        at_a_time: 1,
        claim: Uuid::new_v4(),
        now,
        lease_until: now - Duration::SECOND,
    };
    service.app.stores.work.claim(&lost).await.unwrap().unwrap();
    let run = worker.claimed().await.unwrap();
    assert_eq!(run.attempt, 2);
    let old = ClaimedRun { claim: lost.claim, ..run.clone() };
    let answer = worker.send(run.run_id, old.claim, 0, "").await.unwrap();
    assert_eq!(problem(answer).await.1, "claim_lost");
    worker.append(&run, 0, &[worker::start(&run)]).await.unwrap();
    assert!(worker.claim().await.unwrap().is_none());
}

#[tokio::test]
async fn a_worker_is_looked_up_once_a_second_and_not_with_every_request() {
    let calls = Calls::default();
    let service = InProcess::start_with(&[], |stores| calls.wrap(stores)).await.unwrap();
    let worker = service.worker().await.unwrap();
    service.create(new_run(worker.recipient)).await.unwrap();
    let begun = Instant::now();
    let run = worker.claimed().await.unwrap();
    worker.append(&run, 0, &[worker::start(&run)]).await.unwrap();
    for counter in 1..=40 {
        worker.append(&run, counter, &[printed("a", "x")]).await.unwrap();
    }
    let seconds = usize::try_from(begun.elapsed().as_secs()).unwrap();
    let lookups = calls.of("find");
    assert!((1..=seconds + 1).contains(&lookups), "{lookups} in {seconds} s");
    assert_eq!(calls.of("append"), 41);
    assert!(calls.of("seen") <= 1 + seconds / 5, "{} in {seconds} s", calls.of("seen"));
}

/// Gives a worker's recipient another key, and hands out the worker with that one.
async fn replaced(service: &InProcess, old: &ScriptedWorker) -> ScriptedWorker {
    let known = service.app.stores.recipients.find(&[old.recipient]).await.unwrap();
    let key = format!("dwk_{}_{}", old.recipient.simple(), "n".repeat(32));
    let key_digest = service.app.keyring.digests(key.as_bytes()).into_iter().next();
    let replaced = Recipient { key_digest, ..known[&old.recipient].clone() };
    assert!(service.app.stores.recipients.register(&replaced).await.unwrap());
    ScriptedWorker::new(&service.url, old.recipient, key)
}

async fn call(worker: &ScriptedWorker) -> Response {
    let request = worker.request(Method::POST, "execution/wait");
    request.json(&json!({ "wait_seconds": 0 })).send().await.unwrap()
}

#[tokio::test]
async fn a_replaced_key_is_refused_within_a_second_and_the_new_one_taken_at_once() {
    let service = InProcess::start().await.unwrap();
    let old = service.worker().await.unwrap();
    assert_eq!(call(&old).await.status(), StatusCode::OK);
    replaced(&service, &old).await;
    let since = Instant::now();
    loop {
        let asked = since.elapsed();
        let answer = call(&old).await;
        if answer.status() == StatusCode::UNAUTHORIZED {
            assert_eq!(problem(answer).await.1, "worker_key_unknown");
            break;
        }
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(asked < KNOWN_FOR, "taken {asked:?} after it was replaced");
    }

    let old = service.worker().await.unwrap();
    assert_eq!(call(&old).await.status(), StatusCode::OK);
    let new = replaced(&service, &old).await;
    assert_eq!(call(&new).await.status(), StatusCode::OK);
    assert_eq!(call(&old).await.status(), StatusCode::UNAUTHORIZED, "the new one is known now");
}
