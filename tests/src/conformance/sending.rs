//! Runs that a connector sends: what becomes of them, and what consumers are told.

use dispatcher_api::runs::model::{NewRun, SendOutcome};
use dispatcher_wire::RunStatus;
use time::Duration;

use super::{
    Subject,
    fixtures::{
        NONE, all_hosts, all_runs, claimed_upload, create, foreign_run, host_states, hosts, listed,
        now, org, run, status, update, upload,
    },
};

async fn sent(subject: &Subject, timeout: i32) -> NewRun {
    let mut run = foreign_run(&org());
    (run.hosts, run.timeout) = (hosts(&["a"]), timeout);
    create(&subject.stores, std::slice::from_ref(&run)).await;
    run
}

async fn settle(subject: &Subject, run: &NewRun, outcome: SendOutcome) {
    subject.stores.runs.settle_sent(run.id, outcome).await.unwrap();
}

const CREATED: [&str; 2] = ["run create running", "run_host create running"];

/// Accepted: it is told, once.
pub async fn accepted_runs_are_told_once(subject: &Subject) {
    let run = sent(subject, 60).await;
    assert_eq!(listed(&subject.stores, &all_runs(&run.org_id)).await, [run.id]);
    for _ in 0..2 {
        settle(subject, &run, SendOutcome::Accepted).await;
        assert_eq!(subject.told(run.id).await, CREATED);
    }
    settle(subject, &run, SendOutcome::Refused).await;
    assert_eq!(status(&subject.stores, &run).await, RunStatus::Running);
}

/// Refused: it has never been.
pub async fn refused_runs_are_gone(subject: &Subject) {
    let run = sent(subject, 60).await;
    for _ in 0..2 {
        settle(subject, &run, SendOutcome::Refused).await;
        assert_eq!(listed(&subject.stores, &all_runs(&run.org_id)).await, NONE);
        let its_hosts = subject.stores.runs.list_hosts(&all_hosts(&run.org_id)).await.unwrap();
        assert_eq!(its_hosts.total, 0);
        assert_eq!(subject.told(run.id).await, [""; 0]);
    }
    create(&subject.stores, &[run]).await;
}

/// Nobody knows: it stays and is not told, until an upload proves that it was delivered.
pub async fn doubt_is_settled_by_an_upload(subject: &Subject) {
    let (run, at) = (sent(subject, 60).await, now());
    settle(subject, &run, SendOutcome::Ambiguous).await;
    assert_eq!(status(&subject.stores, &run).await, RunStatus::Running);
    assert_eq!(subject.told(run.id).await, [""; 0]);
    let uploaded = claimed_upload(&subject.stores, &upload(&run.org_id, at)).await;
    let success = update(&run, RunStatus::Success, &["a", "b"], "log");
    subject.stores.uploads.apply(&uploaded, &success.clone().into(), at).await.unwrap();
    let mut told = CREATED.to_vec();
    told.extend(["run update success", "run_host create success", "run_host update success"]);
    told.sort_unstable();
    assert_eq!(subject.told(run.id).await, told);
    for outcome in [SendOutcome::Refused, SendOutcome::Accepted] {
        settle(subject, &run, outcome).await;
        assert_eq!(status(&subject.stores, &run).await, RunStatus::Success);
        assert_eq!(subject.told(run.id).await, told);
    }
}

/// Nobody knows, and nobody ever reports: its timeout settles it.
pub async fn doubt_is_settled_by_the_timeout(subject: &Subject) {
    let run = sent(subject, 60).await;
    settle(subject, &run, SendOutcome::Ambiguous).await;
    subject.stores.upkeep.expire(run.created_at + Duration::minutes(1), 10).await.unwrap();
    let timeout = ("a".to_owned(), RunStatus::Timeout);
    assert_eq!(host_states(&subject.stores, &run).await, [timeout]);
    let mut told = CREATED.to_vec();
    told.extend(["run update timeout", "run_host update timeout"]);
    told.sort_unstable();
    assert_eq!(subject.told(run.id).await, told);
    settle(subject, &run, SendOutcome::Refused).await;
    assert_eq!(status(&subject.stores, &run).await, RunStatus::Timeout);
}

/// Runs of our workers were never sent: nothing happens to them.
pub async fn runs_of_workers_are_not_settled(subject: &Subject) {
    let run = run(&org());
    create(&subject.stores, std::slice::from_ref(&run)).await;
    for outcome in [SendOutcome::Accepted, SendOutcome::Refused, SendOutcome::Ambiguous] {
        settle(subject, &run, outcome).await;
        assert_eq!(status(&subject.stores, &run).await, RunStatus::Running);
        assert_eq!(subject.told(run.id).await, ["run create running"]);
    }
    settle(subject, &foreign_run(&org()), SendOutcome::Accepted).await;
}
