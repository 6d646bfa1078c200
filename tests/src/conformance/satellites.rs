//! What uploads of Satellites do to runs and hosts.

use std::sync::Arc;

use dispatcher_api::{
    runs::model::NewRun,
    store::retention::Purge,
    uploads::model::{ApplyOutcome, Update},
};
use dispatcher_wire::RunStatus::{self, Canceled, Failure, Running, Success};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{
    Subject,
    fixtures::{
        claimed_upload, create, detail, host_rows, now, org, said, satellite_run, status, upload,
    },
};
use crate::satellite::{broken, completed, event, finished, printed};

const GAP: &str = r"\n\u2026\n";

async fn apply(subject: &Subject, run: &NewRun, update: &Arc<Update>, at: OffsetDateTime) {
    let claimed = claimed_upload(&subject.stores, &upload(&run.org_id, at)).await;
    let outcome = subject.stores.uploads.apply(&claimed, update, at).await.unwrap();
    assert_eq!(outcome, ApplyOutcome::Applied);
}

async fn report(subject: &Subject, run: &NewRun, events: &[Value]) {
    apply(subject, run, &said(events), now()).await;
}

/// A run of hosts A and B, dispatched.
async fn dispatched(subject: &Subject, response_full: bool) -> (NewRun, Uuid, Uuid) {
    let mut ids = [Uuid::new_v4(), Uuid::new_v4()];
    ids.sort();
    let run = satellite_run(&org(), &ids, response_full);
    create(&subject.stores, std::slice::from_ref(&run)).await;
    (run, ids[0], ids[1])
}

/// State and log of the hosts.
async fn hosts(subject: &Subject, run: &NewRun) -> Vec<(RunStatus, String)> {
    let rows = host_rows(&subject.stores, run).await.into_iter();
    let mut rows: Vec<_> = rows.map(|row| (row.host, row.status, row.log)).collect();
    rows.sort_by(|a, b| a.0.cmp(&b.0));
    rows.into_iter().map(|(_, status, log)| (status, log)).collect()
}

fn host(status: RunStatus, log: &str) -> (RunStatus, String) {
    (status, log.to_owned())
}

/// From dispatch to success: events stored by sequence, logs replaced by longer ones, hosts that are
/// no hosts of the run left alone, changes told.
pub async fn a_run_reports_its_hosts(subject: &Subject) {
    let (run, a, b) = dispatched(subject, true).await;
    let id = run.correlation_id;
    let first = [printed(id, a, 1, "two"), printed(id, a, 0, "one "), printed(id, b, 0, "")];
    report(subject, &run, &first).await;
    assert_eq!(hosts(subject, &run).await, [host(Running, "one two"), host(Running, "")]);
    let stored = json!([first[1], first[2], first[0]]);
    assert_eq!(subject.probe.run_events(run.id).await, stored);
    let stranger = Uuid::new_v4();
    let second = [
        printed(id, a, 5, "all of it"),
        finished(id, a, "success"),
        printed(id, b, 1, "b"),
        printed(id, stranger, 1, "nobody"),
    ];
    let at = now() + Duration::seconds(1);
    apply(subject, &run, &said(&second), at).await;
    assert_eq!(hosts(subject, &run).await, [host(Success, "all of it"), host(Running, "b")]);
    report(subject, &run, &[finished(id, b, "success"), completed(id, "success")]).await;
    assert_eq!(hosts(subject, &run).await, [host(Success, "all of it"), host(Success, "b")]);
    assert_eq!(status(&subject.stores, &run).await, Success);
    report(subject, &run, &[completed(id, "failure")]).await;
    assert_eq!(status(&subject.stores, &run).await, Success, "it stays");
    let told = [
        "run create running",
        "run update running",
        "run update running",
        "run update success",
        "run_host create running",
        "run_host create running",
        "run_host update running",
        "run_host update running",
        "run_host update running",
        "run_host update success",
        "run_host update success",
    ];
    assert_eq!(subject.told(run.id).await, told);
}

/// In partial mode output is added; what is missing is marked until it comes, also behind the
/// greatest number that the column holds; what came before changes nothing.
pub async fn pieces_find_their_places(subject: &Subject) {
    let (run, a, b) = dispatched(subject, false).await;
    let id = run.correlation_id;
    let log = async |expected: String| {
        assert_eq!(hosts(subject, &run).await[0].1, expected);
    };
    report(subject, &run, &[printed(id, a, 0, "zero ä\n"), printed(id, a, 1, "one\n")]).await;
    log("zero ä\none\n".to_owned()).await;
    report(subject, &run, &[printed(id, a, 3, "three"), printed(id, b, 1, "b")]).await;
    log(format!("zero ä\none\n{GAP}three")).await;
    report(subject, &run, &[broken(id, "why")]).await;
    report(subject, &run, &[printed(id, a, 2, "two\n")]).await;
    log("zero ä\none\ntwo\nthreewhy".to_owned()).await;
    report(subject, &run, &[printed(id, a, 1, "one\n"), printed(id, a, 40_000, "far")]).await;
    log(format!("zero ä\none\ntwo\nthree{GAP}farwhy")).await;
    report(subject, &run, &[printed(id, a, 40_001, "ther")]).await;
    log(format!("zero ä\none\ntwo\nthree{GAP}fartherwhy")).await;
    assert_eq!(hosts(subject, &run).await[1], host(Failure, &format!("{GAP}bwhy")));
    let error = detail(&subject.stores, &run).await.error;
    assert_eq!(error, Some(("SATELLITE_CONNECTION_ERROR".to_owned(), "why".to_owned())));
}

/// A host that is done takes output and stays as it is; a run that failed or was canceled too. Its
/// events are replaced where it was canceled.
pub async fn an_end_is_an_end(subject: &Subject) {
    for (full, end) in [(true, Canceled), (false, Canceled), (true, Failure), (false, Failure)] {
        let (run, a, b) = dispatched(subject, full).await;
        let id = run.correlation_id;
        report(subject, &run, &[printed(id, a, 3, "x"), finished(id, a, "canceled")]).await;
        report(subject, &run, &[printed(id, a, 4, "y")]).await;
        assert_eq!(hosts(subject, &run).await[0].0, Canceled);
        report(subject, &run, &[completed(id, end.as_str())]).await;
        let last = [completed(id, "success"), finished(id, b, "success")];
        report(subject, &run, &last).await;
        assert_eq!(status(&subject.stores, &run).await, end);
        let states: Vec<_> = hosts(subject, &run).await.into_iter().map(|host| host.0).collect();
        assert_eq!(states, [Canceled, Success], "a host's own end is known better");
        let replaced = subject.probe.run_events(run.id).await == json!(last);
        assert_eq!(replaced, end == Canceled);
    }
    // A timeout gives way.
    let (run, a, _) = dispatched(subject, true).await;
    let over = run.created_at + Duration::hours(2);
    subject.stores.upkeep.expire(over, 100).await.unwrap();
    assert_eq!(status(&subject.stores, &run).await, RunStatus::Timeout);
    let id = run.correlation_id;
    report(subject, &run, &[printed(id, a, 0, "late")]).await;
    assert_eq!(status(&subject.stores, &run).await, RunStatus::Timeout);
    report(subject, &run, &[finished(id, a, "success"), completed(id, "success")]).await;
    assert_eq!(status(&subject.stores, &run).await, Success);
    assert_eq!(hosts(subject, &run).await[0], host(Success, "late"));
}

/// Neither hosts nor an end: it runs on. In partial mode only the end of the run ends it. An end
/// without a state is none.
pub async fn only_the_end_of_a_run_is_needed(subject: &Subject) {
    for full in [true, false] {
        let (run, a, b) = dispatched(subject, full).await;
        let id = run.correlation_id;
        let ends = |events: Vec<Value>, expected: RunStatus| {
            let run = &run;
            async move {
                report(subject, run, &events).await;
                assert_eq!(status(&subject.stores, run).await, expected);
            }
        };
        ends(vec![event(id, "update", &json!({}))], Running).await;
        ends(vec![event(id, "completed", &json!({}))], Running).await;
        ends(vec![finished(id, a, "success")], Running).await;
        let all = if full { Failure } else { Running };
        ends(vec![finished(id, b, "failure")], all).await;
        ends(vec![completed(id, "failure")], Failure).await;
    }
}

/// What is known beside the rows is removed with the output, and a late upload begins anew.
pub async fn what_is_known_goes_with_the_run(subject: &Subject) {
    let (run, a, _) = dispatched(subject, false).await;
    let id = run.correlation_id;
    report(subject, &run, &[printed(id, a, 0, "zero"), completed(id, "success")]).await;
    let later = now() + Duration::hours(1);
    let retention = &subject.stores.retention;
    retention.purge_output(&[run.id], later, Purge::Remove(later)).await.unwrap();
    assert_eq!(hosts(subject, &run).await[0], host(Success, ""));
    report(subject, &run, &[printed(id, a, 1, "one")]).await;
    assert_eq!(hosts(subject, &run).await[0], host(Success, "one"));
    let purged = retention.purge_runs(&[run.id], later, Purge::Remove(later)).await.unwrap();
    assert_eq!(purged.runs, 1);
}
