//! Ends of runs: states, logs, events, once; late ends over timeouts.

use dispatcher_api::{
    execution::model::{AppendBatch, Finish, FinishOutcome, Hold, WorkState},
    runs::model::{NewRoute, NewRun},
};
use dispatcher_wire::{RunStatus, event::error_code};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{
    Subject,
    fixtures::{
        append, batch, claimed, create, detail, executor_error, finish, finished, host_rows,
        host_states, hosts, now, org, run, started, stats, status,
    },
};

/// A run with these hosts that its worker has started.
async fn going(subject: &Subject, names: &[&str], at: OffsetDateTime) -> (NewRun, Hold) {
    let mut run = run(&org());
    run.hosts = hosts(names);
    create(&subject.stores, std::slice::from_ref(&run)).await;
    let hold = started(&subject.stores, &run, at).await;
    (run, hold)
}

/// Counts decide per host; hosts without counts end as the run does; everything is told once.
pub async fn counts_decide(subject: &Subject) {
    let at = now();
    let (run, hold) = going(subject, &["bad", "good", "silent"], at).await;
    let ended = finished(&subject.stores, hold, 1, stats(&[("bad", true), ("good", false)]), at);
    assert_eq!(ended.await, RunStatus::Failure);
    let rows = host_rows(&subject.stores, &run).await;
    let states: Vec<_> = rows.iter().map(|row| row.status).collect();
    assert_eq!(states, [RunStatus::Failure, RunStatus::Success, RunStatus::Failure]);
    assert!(rows.iter().all(|row| row.log == "end\n" && row.updated_at == at), "{rows:?}");
    let detail = detail(&subject.stores, &run).await;
    assert_eq!((detail.run.status, detail.run.updated_at), (RunStatus::Failure, at));
    assert_eq!((detail.work.unwrap().state, detail.error), (WorkState::Done, None));
    let told = [
        "run create running",
        "run update failure",
        "run_host create running",
        "run_host create running",
        "run_host create running",
        "run_host update failure",
        "run_host update failure",
        "run_host update success",
    ];
    assert_eq!(subject.told(run.id).await, told);
}

/// An executor's error decides over counts, and is kept.
pub async fn errors_decide_and_are_kept(subject: &Subject) {
    let at = now();
    for (code, expected) in [
        (error_code::CANCELED, RunStatus::Canceled),
        (error_code::TIMEOUT, RunStatus::Timeout),
        (error_code::INTERRUPTED, RunStatus::Failure),
    ] {
        let (run, hold) = going(subject, &["a"], at).await;
        let ended = finished(&subject.stores, hold, 1, executor_error(code), at).await;
        assert_eq!(ended, expected);
        assert_eq!(host_states(&subject.stores, &run).await, [("a".to_owned(), expected)]);
        let error = detail(&subject.stores, &run).await.error;
        assert_eq!(error, Some((code.to_owned(), "so it was".to_owned())));
    }
}

/// Without a word about the outcome, a run has failed.
pub async fn silence_is_a_failure(subject: &Subject) {
    let at = now();
    let (_, hold) = going(subject, &[], at).await;
    let ended = subject.stores.work.finish(hold, &finish(1, at)).await.unwrap();
    assert_eq!(ended, FinishOutcome::Final(RunStatus::Failure));
}

/// Repeated, also with another number of records, it changes and tells nothing.
pub async fn repeated_it_changes_nothing(subject: &Subject) {
    let at = now();
    let (run, hold) = going(subject, &["a"], at).await;
    assert_eq!(finished(&subject.stores, hold, 1, stats(&[]), at).await, RunStatus::Success);
    let (before, told) = (detail(&subject.stores, &run).await.run, subject.told(run.id).await);
    let later = at + Duration::seconds(9);
    for next_counter in [2, 0, 7] {
        let again = subject.stores.work.finish(hold, &finish(next_counter, later)).await.unwrap();
        assert_eq!(again, FinishOutcome::Final(RunStatus::Success));
    }
    assert_eq!(append(&subject.stores, hold, &batch(1, &["end\n", "x"], later)).await, (2, true));
    assert_eq!(detail(&subject.stores, &run).await.run, before);
    assert_eq!(detail(&subject.stores, &run).await.output_bytes, 4);
    assert_eq!(subject.told(run.id).await, told);
}

/// Missing records and foreign claims: nothing is ended.
pub async fn gaps_and_foreign_claims(subject: &Subject) {
    let at = now();
    let (run, hold) = going(subject, &["a"], at).await;
    let gap = subject.stores.work.finish(hold, &finish(2, at)).await.unwrap();
    assert_eq!(gap, FinishOutcome::Gap { next_counter: 1 });
    for foreign in [
        Hold { claim: Uuid::nil(), ..hold },
        Hold { recipient: Uuid::nil(), ..hold },
        Hold { run_id: Uuid::nil(), ..hold },
    ] {
        let outcome = subject.stores.work.finish(foreign, &finish(1, at)).await.unwrap();
        assert_eq!(outcome, FinishOutcome::NotYours);
    }
    assert_eq!(status(&subject.stores, &run).await, RunStatus::Running);
    assert_eq!(host_states(&subject.stores, &run).await, [("a".to_owned(), RunStatus::Running)]);
}

/// Inputs and secrets are gone with the run's end.
pub async fn inputs_are_deleted(subject: &Subject) {
    let at = now();
    let mut run = run(&org());
    run.route = NewRoute::Worker {
        inputs: Some(serde_json::json!({"check": true})),
        sealed_secrets: Some(vec![1]),
    };
    create(&subject.stores, std::slice::from_ref(&run)).await;
    let hold = started(&subject.stores, &run, at).await;
    assert!(subject.stores.work.inputs(hold).await.unwrap().unwrap().inputs.is_some());
    finished(&subject.stores, hold, 1, stats(&[]), at).await;
    assert!(!subject.probe.has_inputs(run.id).await);
    let after = subject.stores.work.inputs(hold).await.unwrap().unwrap_or_default();
    assert!(after.inputs.is_none() && after.sealed_secrets.is_none());
}

/// A late result replaces a timeout, with the log; a late timeout leaves the state, not the log.
pub async fn late_ends_over_a_timeout(subject: &Subject) {
    for (outcome, expected) in [
        (stats(&[("a", false)]), RunStatus::Success),
        (executor_error(error_code::CANCELED), RunStatus::Canceled),
        (executor_error(error_code::TIMEOUT), RunStatus::Timeout),
    ] {
        let at = now();
        let (run, hold) = going(subject, &["a"], at).await;
        let end = run.row().expires_at();
        subject.stores.upkeep.expire(end, 10).await.unwrap();
        let timeout = ("a".to_owned(), RunStatus::Timeout);
        assert_eq!(host_states(&subject.stores, &run).await, [timeout]);
        assert_eq!(finished(&subject.stores, hold, 1, outcome, end).await, expected);
        let rows = host_rows(&subject.stores, &run).await;
        assert_eq!((rows[0].status, rows[0].log.as_str()), (expected, "end\n"));
        assert_eq!(status(&subject.stores, &run).await, expected);
        subject.told(run.id).await;
    }
}

/// A long output is copied to its hosts by its two ends, by what each may have and by what all may
/// have together; the run's own log has all of it.
pub async fn host_logs_are_capped(subject: &Subject) {
    let at = now();
    let each = Finish { host_log_cap: 1000, ..finish(61, at) };
    let together = Finish { host_log_cap: 4000, all_logs_cap: 2000, ..finish(61, at) };
    for request in [each, together] {
        long_output_is_capped(subject, &request, at).await;
    }
}

/// Two hosts get 1000 bytes each.
async fn long_output_is_capped(subject: &Subject, request: &Finish, at: OffsetDateTime) {
    let (run, hold) = going(subject, &["a", "b"], at).await;
    let mut whole = Vec::new();
    for first in 1..=60_u64 {
        let line = format!("line {first} {}\n", "x".repeat(100));
        whole.extend_from_slice(line.as_bytes());
        append(&subject.stores, hold, &batch(first, &[&line], at)).await;
    }
    subject.stores.work.finish(hold, request).await.unwrap();
    let rows = host_rows(&subject.stores, &run).await;
    let log = &rows[0].log;
    assert_eq!(*log, rows[1].log);
    assert!(log.len() <= 1000 && log.len() > 900, "{} bytes", log.len());
    assert!(log.starts_with("line 1 xxx") && log.ends_with("xxx\n"), "{log}");
    let (head, rest) = log.split_once("\n[dispatcher: ").unwrap();
    let (left_out, tail) = rest.split_once(" bytes are left out").unwrap();
    let tail = tail.split_once("]\n").unwrap().1;
    assert_eq!(left_out.parse::<usize>().unwrap() + head.len() + tail.len(), whole.len());
    let read = subject.stores.runs.read_log(&run.org_id, run.id, Some("b"), 0, 1 << 20).await;
    assert_eq!(read.unwrap().unwrap().bytes, whole);
}

/// What is no text becomes U+FFFD in host logs, and stays as it is in the run's own log.
pub async fn what_is_no_text_is_replaced(subject: &Subject) {
    let at = now();
    let (run, hold) = going(subject, &["a"], at).await;
    let raw = b"a\0b\xFFc\xE2\x82".to_vec();
    let printed = AppendBatch { output_ends: vec![raw.len()], output: raw, ..batch(1, &[], at) };
    append(&subject.stores, hold, &printed).await;
    // The rest of the euro sign that was cut by the first batch.
    let rest = AppendBatch { output_ends: vec![1], output: vec![0xAC], ..batch(2, &[], at) };
    append(&subject.stores, hold, &rest).await;
    subject.stores.work.finish(hold, &finish(3, at)).await.unwrap();
    assert_eq!(host_rows(&subject.stores, &run).await[0].log, "a\u{FFFD}b\u{FFFD}c€");
    let read = subject.stores.runs.read_log(&run.org_id, run.id, None, 0, 100).await.unwrap();
    assert_eq!(read.unwrap().bytes, b"a\0b\xFFc\xE2\x82\xAC");
}

/// A claim that was never started can be finished too (it was told not to start).
pub async fn unstarted_work_can_be_finished(subject: &Subject) {
    let at = now();
    let run = run(&org());
    create(&subject.stores, std::slice::from_ref(&run)).await;
    let hold = claimed(&subject.stores, &run, at).await;
    let ended = subject.stores.work.finish(hold, &finish(0, at)).await.unwrap();
    assert_eq!(ended, FinishOutcome::Final(RunStatus::Failure));
    assert_eq!(status(&subject.stores, &run).await, RunStatus::Failure);
}
