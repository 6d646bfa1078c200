//! Canceling: what it comes to in every state of a run and its work.

use dispatcher_api::{
    execution::model::WorkState,
    runs::model::{CancelOutcome, CancelRequest, NewRoute, NewRun},
};
use dispatcher_wire::RunStatus;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{
    Subject,
    fixtures::{
        NONE, append, batch, claimed, create, detail, doorbell, finished, foreign_run, host_states,
        hosts, now, org, request, run, started, stats, status,
    },
};

fn asking(run: &NewRun, org_id: &str) -> CancelRequest {
    CancelRequest {
        run_id: run.id,
        org_id: org_id.to_owned(),
        principal: "somebody else".to_owned(),
    }
}

async fn cancel(subject: &Subject, run: &NewRun, at: OffsetDateTime) -> CancelOutcome {
    let outcomes = subject.stores.runs.cancel(&[asking(run, &run.org_id)], at, None).await.unwrap();
    assert_eq!(outcomes.len(), 1);
    outcomes.into_iter().next().unwrap()
}

/// A run that nobody has claimed is canceled at once, with its hosts; its inputs are gone.
pub async fn pending_work_is_canceled(subject: &Subject) {
    let at = now();
    let mut run = run(&org());
    run.hosts = hosts(&["a", "b"]);
    run.route = NewRoute::Worker {
        inputs: Some(serde_json::json!({"tags": ["x"]})),
        sealed_secrets: Some(vec![1, 2, 3]),
    };
    create(&subject.stores, std::slice::from_ref(&run)).await;
    assert!(subject.probe.has_inputs(run.id).await);
    assert_eq!(cancel(subject, &run, at).await, CancelOutcome::Canceled);
    assert!(!subject.probe.has_inputs(run.id).await);
    let canceled = |host: &str| (host.to_owned(), RunStatus::Canceled);
    assert_eq!(host_states(&subject.stores, &run).await, [canceled("a"), canceled("b")]);
    let row = detail(&subject.stores, &run).await.run;
    assert_eq!((row.status, row.updated_at), (RunStatus::Canceled, at));
    let claim = request(run.recipient, at);
    assert_eq!(subject.stores.work.claim(&claim).await.unwrap(), None);
    assert_eq!(cancel(subject, &run, at).await, CancelOutcome::NotRunning);
    let mut told = vec!["run create running", "run update canceled"];
    told.extend(["run_host create running"; 2]);
    told.extend(["run_host update canceled"; 2]);
    assert_eq!(subject.told(run.id).await, told);
}

/// Work in somebody's hands is marked, and its worker hears of it, as often as it is asked.
pub async fn work_under_way_is_marked(subject: &Subject) {
    let at = now();
    let mut run = run(&org());
    run.hosts = hosts(&["a"]);
    create(&subject.stores, std::slice::from_ref(&run)).await;
    let hold = claimed(&subject.stores, &run, at).await;
    let requested = CancelOutcome::Requested { recipient: run.recipient };
    let bell = doorbell(&subject.stores, run.recipient, at).await;
    assert_eq!(bell.cancel, NONE);
    assert_eq!(cancel(subject, &run, at).await, requested);
    assert_eq!(append(&subject.stores, hold, &batch(0, &[""], at)).await, (1, true));
    assert_eq!(cancel(subject, &run, at).await, requested);
    let bell = doorbell(&subject.stores, run.recipient, at).await;
    assert_eq!((bell.work, bell.cancel), (false, vec![run.id]));
    let detail = detail(&subject.stores, &run).await;
    assert_eq!(detail.run.status, RunStatus::Running);
    let work = detail.work.unwrap();
    assert_eq!((work.state, work.cancel_requested), (WorkState::Started, true));
    assert_eq!(subject.told(run.id).await, ["run create running", "run_host create running"]);
    let ended = finished(&subject.stores, hold, 1, stats(&[("a", false)]), at).await;
    assert_eq!(ended, RunStatus::Success, "it was quicker than the cancellation");
    assert_eq!(cancel(subject, &run, at).await, CancelOutcome::NotRunning);
}

/// A run whose time is over is not running, before and after the cleaner has seen it.
pub async fn expired_runs_are_not_running(subject: &Subject) {
    let at = now();
    let mut run = run(&org());
    (run.created_at, run.timeout) = (at - Duration::seconds(5), 5);
    create(&subject.stores, std::slice::from_ref(&run)).await;
    assert_eq!(cancel(subject, &run, at).await, CancelOutcome::NotRunning);
    assert_eq!(status(&subject.stores, &run).await, RunStatus::Running);
    subject.stores.upkeep.expire(at, 10).await.unwrap();
    assert_eq!(cancel(subject, &run, at).await, CancelOutcome::NotRunning);
    assert_eq!(status(&subject.stores, &run).await, RunStatus::Timeout);
}

/// Unknown runs, runs of others, runs elsewhere: each its outcome, in the order of the requests.
pub async fn outcomes_are_in_order(subject: &Subject) {
    let (org, at) = (org(), now());
    let mut elsewhere = [foreign_run(&org), foreign_run(&org)];
    (elsewhere[1].created_at, elsewhere[1].timeout) = (at - Duration::seconds(5), 5);
    let own = run(&org);
    let busy = run(&org);
    create(&subject.stores, &[elsewhere.to_vec(), vec![own.clone(), busy.clone()]].concat()).await;
    started(&subject.stores, &busy, at).await;
    let unknown = run(&org);
    let requests = [
        asking(&unknown, &org),
        asking(&elsewhere[0], &org),
        asking(&own, "other"),
        asking(&elsewhere[0], "other"),
        asking(&own, &org),
        asking(&own, &org),
        asking(&elsewhere[1], &org),
        asking(&busy, &org),
    ];
    let outcomes = subject.stores.runs.cancel(&requests, at, None).await.unwrap();
    let expected = [
        CancelOutcome::NotFound,
        CancelOutcome::Elsewhere(Box::new(elsewhere[0].row())),
        CancelOutcome::OtherOrg,
        CancelOutcome::OtherOrg,
        CancelOutcome::Canceled,
        CancelOutcome::NotRunning,
        CancelOutcome::Elsewhere(Box::new(elsewhere[1].row())),
        CancelOutcome::Requested { recipient: busy.recipient },
    ];
    assert_eq!(outcomes, expected);
    assert_eq!(status(&subject.stores, &elsewhere[0]).await, RunStatus::Running);
    assert_eq!(subject.stores.runs.cancel(&[], at, None).await.unwrap(), []);
    let nil = CancelRequest { run_id: Uuid::nil(), ..asking(&own, &org) };
    let outcomes = subject.stores.runs.cancel(&[nil], at, None).await.unwrap();
    assert_eq!(outcomes, [CancelOutcome::NotFound]);
}

/// Canceled while a claim's lease is over: whoever claims it next is told to end it.
pub async fn abandoned_work_is_ended_by_the_next_claim(subject: &Subject) {
    let at = now();
    let run = run(&org());
    create(&subject.stores, std::slice::from_ref(&run)).await;
    claimed(&subject.stores, &run, at).await;
    let later = at + Duration::minutes(5);
    let requested = CancelOutcome::Requested { recipient: run.recipient };
    assert_eq!(cancel(subject, &run, later).await, requested);
    let hold = claimed(&subject.stores, &run, later).await;
    assert_eq!(append(&subject.stores, hold, &batch(0, &[""], later)).await, (1, true));
}
