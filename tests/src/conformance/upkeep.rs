//! What time does: timeouts of runs and hosts, work that is not started any more, forgetting.

use dispatcher_api::{
    execution::model::{AppendOutcome, FinishOutcome, WorkState},
    runs::model::{CreateOutcome, IdempotencyKey, NewRoute, NewRun},
    store::Expired,
};
use dispatcher_wire::RunStatus;
use time::{Duration, OffsetDateTime};

use super::{
    Subject,
    fixtures::{
        append, batch, claimed, claimed_upload, create, detail, doorbell, finish, finished,
        host_states, hosts, now, org, request, run, started, stats, status, update, upload,
    },
};

async fn expire(subject: &Subject, at: OffsetDateTime) -> (u64, u64) {
    let Expired { runs, hosts } = subject.stores.upkeep.expire(at, 100).await.unwrap();
    (runs, hosts)
}

/// A run whose time is over exactly now.
fn ending(at: OffsetDateTime) -> NewRun {
    NewRun { created_at: at - Duration::seconds(7), timeout: 7, ..run(&org()) }
}

/// From its last microsecond on, with its running hosts, once; others are left alone.
pub async fn runs_and_hosts_time_out(subject: &Subject) {
    let at = now();
    let mut over = NewRun { route: NewRoute::CloudConnector, ..ending(at) };
    over.hosts = hosts(&["a", "b"]);
    let mut at_once = NewRun { created_at: at, timeout: 0, ..run(&org()) };
    at_once.hosts = hosts(&["c"]);
    let mut later = ending(at + Duration::microseconds(1));
    later.hosts = hosts(&["d"]);
    create(&subject.stores, &[over.clone(), at_once.clone(), later.clone()]).await;
    let mut success = update(&over, RunStatus::Running, &["a"], "");
    success.hosts[0].1 = RunStatus::Success;
    let uploaded = claimed_upload(&subject.stores, &upload(&over.org_id, at)).await;
    subject.stores.uploads.apply(&uploaded, &success.clone().into(), at).await.unwrap();
    assert_eq!(expire(subject, at - Duration::microseconds(1)).await, (0, 0));
    assert_eq!(expire(subject, at).await, (2, 2));
    assert_eq!(expire(subject, at).await, (0, 0));
    let row = detail(&subject.stores, &over).await.run;
    assert_eq!((row.status, row.updated_at), (RunStatus::Timeout, at));
    let states = [("a".to_owned(), RunStatus::Success), ("b".to_owned(), RunStatus::Timeout)];
    assert_eq!(host_states(&subject.stores, &over).await, states);
    assert_eq!(status(&subject.stores, &later).await, RunStatus::Running);
    let told = [
        "run create running",
        "run update timeout",
        "run_host create running",
        "run_host update timeout",
    ];
    assert_eq!(subject.told(at_once.id).await, told);
    assert_eq!(subject.told(later.id).await.len(), 2);
}

/// At most so many runs at once, the rest with the next calls.
pub async fn limited_per_call(subject: &Subject) {
    let at = now();
    let runs: Vec<_> = (0..5).map(|_| ending(at)).collect();
    create(&subject.stores, &runs).await;
    let mut counts = Vec::new();
    for _ in 0..4 {
        counts.push(subject.stores.upkeep.expire(at, 2).await.unwrap().runs);
    }
    assert_eq!(counts, [2, 2, 1, 0]);
}

/// Runs that ended in time stay as they are.
pub async fn final_runs_stay(subject: &Subject) {
    let at = now();
    let run = run(&org());
    create(&subject.stores, std::slice::from_ref(&run)).await;
    let hold = started(&subject.stores, &run, at).await;
    finished(&subject.stores, hold, 1, stats(&[]), at).await;
    assert_eq!(expire(subject, at + Duration::days(30)).await, (0, 0));
    assert_eq!(status(&subject.stores, &run).await, RunStatus::Success);
}

/// Hosts that are found running in a run that has timed out before follow it.
pub async fn hosts_of_earlier_timeouts(subject: &Subject) {
    let at = now();
    let run = run(&org());
    create(&subject.stores, std::slice::from_ref(&run)).await;
    let end = run.row().expires_at();
    let hold = started(&subject.stores, &run, at).await;
    assert_eq!(expire(subject, end).await, (1, 0));
    let mut late = batch(1, &["x"], end);
    late.hosts = vec!["late".to_owned()];
    append(&subject.stores, hold, &late).await;
    assert_eq!(expire(subject, end).await, (0, 1));
    let timeout = ("late".to_owned(), RunStatus::Timeout);
    assert_eq!(host_states(&subject.stores, &run).await, [timeout]);
}

/// Work that nobody has started never is, says so, and its inputs are gone.
pub async fn unstarted_work_is_over(subject: &Subject) {
    let at = now();
    let mut runs = [ending(at), ending(at)];
    for run in &mut runs {
        run.route =
            NewRoute::Worker { inputs: Some(serde_json::json!({})), sealed_secrets: Some(vec![1]) };
    }
    create(&subject.stores, &runs).await;
    let before = at - Duration::seconds(1);
    let hold = claimed(&subject.stores, &runs[1], before).await;
    assert_eq!(expire(subject, at).await.0, 2);
    for run in &runs {
        let detail = detail(&subject.stores, run).await;
        assert_eq!(detail.run.status, RunStatus::Timeout);
        assert_eq!(detail.work.unwrap().state, WorkState::Done);
        assert!(detail.error.is_some(), "it says why");
        assert!(!subject.probe.has_inputs(run.id).await);
        let claim = request(run.recipient, at);
        assert_eq!(subject.stores.work.claim(&claim).await.unwrap(), None);
    }
    // Its claim tells the worker to end, and takes nothing more.
    let outcome = subject.stores.work.append(hold, &batch(0, &["x"], at)).await.unwrap();
    assert_eq!(outcome, AppendOutcome::Applied { next_counter: 0, cancel: true });
    let outcome = subject.stores.work.finish(hold, &finish(1, at)).await.unwrap();
    assert_eq!(outcome, FinishOutcome::Final(RunStatus::Timeout));
    assert_eq!(detail(&subject.stores, &runs[1]).await.output_bytes, 0);
}

/// Work that was started is asked to end; what it needed for the start is gone.
pub async fn started_work_is_asked_to_end(subject: &Subject) {
    let at = now();
    let mut run = ending(at);
    run.route =
        NewRoute::Worker { inputs: Some(serde_json::json!({})), sealed_secrets: Some(vec![1]) };
    create(&subject.stores, std::slice::from_ref(&run)).await;
    started(&subject.stores, &run, at - Duration::seconds(1)).await;
    assert_eq!(expire(subject, at).await, (1, 0));
    assert!(!subject.probe.has_inputs(run.id).await, "a final run keeps no secrets");
    let work = detail(&subject.stores, &run).await.work.unwrap();
    assert_eq!((work.state, work.cancel_requested), (WorkState::Started, true));
    let bell = doorbell(&subject.stores, run.recipient, at).await;
    assert_eq!(bell.cancel, [run.id]);
}

/// Many cleaners at once do it once.
pub async fn many_cleaners_at_once(subject: &Subject) {
    let at = now();
    let mut runs: Vec<_> = (0..20).map(|_| ending(at)).collect();
    runs.iter_mut().for_each(|run| run.hosts = hosts(&["a"]));
    create(&subject.stores, &runs).await;
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let upkeep = subject.stores.upkeep.clone();
            tokio::spawn(async move { upkeep.expire(at, 100).await.unwrap() })
        })
        .collect();
    let mut sum = (0, 0);
    for task in tasks {
        let expired = task.await.unwrap();
        sum = (sum.0 + expired.runs, sum.1 + expired.hosts);
    }
    let rest = expire(subject, at).await;
    assert_eq!((sum.0 + rest.0, sum.1 + rest.1), (20, 20));
    for run in &runs {
        assert_eq!(subject.told(run.id).await.len(), 4);
    }
}

/// A result that comes in the very moment in which the time is over is never overwritten.
pub async fn a_result_wins_whoever_is_first(subject: &Subject) {
    let at = now();
    let runs: Vec<NewRun> =
        (0..20).map(|_| NewRun { route: NewRoute::CloudConnector, ..ending(at) }).collect();
    create(&subject.stores, &runs).await;
    let mut tasks = Vec::new();
    for run in &runs {
        let claimed = claimed_upload(&subject.stores, &upload(&run.org_id, at)).await;
        let result = update(run, RunStatus::Success, &["a"], "all");
        let (uploads, upkeep) = (subject.stores.uploads.clone(), subject.stores.upkeep.clone());
        tasks.push(tokio::spawn(async move {
            uploads.apply(&claimed, &result.into(), at).await.unwrap();
        }));
        tasks.push(tokio::spawn(async move {
            upkeep.expire(at, 3).await.unwrap();
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(expire(subject, at).await, (0, 0));
    for run in &runs {
        assert_eq!(status(&subject.stores, run).await, RunStatus::Success);
        let ended = [("a".to_owned(), RunStatus::Success)];
        assert_eq!(host_states(&subject.stores, run).await, ended);
    }
}

/// Keys go when they expire, event rows when they are old enough; runs stay.
pub async fn forgetting(subject: &Subject) {
    let (org, at) = (org(), now());
    let run = run(&org);
    let key = |name: &str, expires_at| IdempotencyKey {
        principal: "p".to_owned(),
        org_id: org.clone(),
        key: name.to_owned(),
        body_hash: [0; 32],
        expires_at,
        answer: None,
    };
    let (short, long) =
        (key("short", at + Duration::hours(1)), key("long", at + Duration::days(9)));
    subject.stores.runs.create(&[], Some(&short), &[]).await.unwrap();
    subject.stores.runs.create(std::slice::from_ref(&run), Some(&long), &[]).await.unwrap();
    let hour = Duration::hours(1);
    assert_eq!(subject.stores.upkeep.forget(at, at - hour, false, 9).await.unwrap(), 0);
    assert_eq!(subject.stores.upkeep.forget(at + hour, at - hour, false, 9).await.unwrap(), 1);
    let again = subject.stores.runs.create(&[], Some(&short), &[]).await.unwrap();
    assert_eq!(again, CreateOutcome::Created);
    let again = subject.stores.runs.create(&[], Some(&long), &[]).await.unwrap();
    assert_eq!(again, CreateOutcome::InFlight);
    assert_eq!(subject.stores.upkeep.forget(at, at + hour, false, 9).await.unwrap(), 1);
    assert_eq!(subject.probe.outbox(run.id).await.len(), 0);
    assert_eq!(status(&subject.stores, &run).await, RunStatus::Running);
}

/// So many rows of a kind a call, the rest with the next calls; fewer than asked for at the end.
pub async fn forgetting_is_limited_per_call(subject: &Subject) {
    let (org, at) = (org(), now());
    for number in 0..5 {
        let key = IdempotencyKey {
            principal: "p".to_owned(),
            org_id: org.clone(),
            key: number.to_string(),
            body_hash: [0; 32],
            expires_at: at + Duration::hours(1),
            answer: None,
        };
        subject.stores.runs.create(&[run(&org)], Some(&key), &[]).await.unwrap();
    }
    let later = at + Duration::hours(2);
    let mut counts = Vec::new();
    for _ in 0..4 {
        counts.push(subject.stores.upkeep.forget(later, later, false, 2).await.unwrap());
    }
    assert_eq!(counts, [4, 4, 2, 0]);
}

/// The database answers.
pub async fn ping(subject: &Subject) {
    subject.stores.upkeep.ping().await.unwrap();
}
