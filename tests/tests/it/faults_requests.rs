//! The process is killed between the steps of cancel and of storing a playbook, around the commits
//! too. Either all of the request has happened or nothing, and repeating it brings about the rest.

use std::{path::Path, time::Duration};

use dispatcher_tests::process::{BASE, Service};
use dispatcher_wire::{
    RunStatus,
    event::error_code,
    view::{Page, PlaybookView},
};
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use crate::faults::{counting_playbook, executions};

/// A playbook that leaves a line in `marker` and then works longer than any test.
fn endless(marker: &Path) -> String {
    counting_playbook(marker).replace("sleep 0.3", "sleep 3185")
}

/// A started run, and one that waits for it.
async fn started_and_waiting(service: &Service, markers: [&Path; 2]) -> [Uuid; 2] {
    let mut runs = [Uuid::nil(); 2];
    for (run, marker) in runs.iter_mut().zip(markers) {
        let url = service.put_playbook("endless", endless(marker)).await.unwrap();
        *run = service.dispatch(&service.item(&url, &json!({})), None).await.unwrap();
    }
    while executions(markers[0]) == 0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!service.run(runs[0]).await.unwrap().status.is_final(), "it ended before");
    }
    runs
}

/// Cancels all in one request; whether it was answered.
async fn cancel(service: &Service, runs: &[Uuid]) -> bool {
    let item = |run: &Uuid| json!({ "run_id": run, "org_id": service.org_id, "principal": "test" });
    let items: Vec<_> = runs.iter().map(item).collect();
    let request = service.request(Method::POST, "/internal/v2/cancel").json(&items);
    request.send().await.is_ok()
}

async fn canceled_and_killed_at(point: &str, is_committed: bool) {
    let directory = tempfile::tempdir().unwrap();
    let markers = ["started", "waiting"].map(|name| directory.path().join(name));
    let crash = [("DISPATCHER_CRASH_AT", point)];
    let mut service = Service::start_with(directory.path(), &crash).await.unwrap();
    let runs = started_and_waiting(&service, [&markers[0], &markers[1]]).await;
    assert!(!cancel(&service, &runs).await, "{point}: it was answered");
    service.died().await.unwrap();

    let service = Service::start(directory.path()).await.unwrap();
    let waiting = service.run(runs[1]).await.unwrap().status;
    let expected = if is_committed { RunStatus::Canceled } else { RunStatus::Running };
    assert_eq!(waiting, expected, "{point}");
    let code = service.cancel(runs[1]).await.unwrap();
    assert_eq!(code, if is_committed { 409 } else { 202 }, "{point}");
    let (run, log) = service.ended(runs[1]).await.unwrap();
    assert_eq!(run.status, RunStatus::Canceled, "{point}: {log}");
    let most = usize::from(!is_committed);
    assert!(executions(&markers[1]) <= most, "{point}: executed after it was canceled");
    // What was under way when the process died says so, and is not executed again.
    let (run, log) = service.ended(runs[0]).await.unwrap();
    let expected = if is_committed {
        (RunStatus::Canceled, error_code::CANCELED)
    } else {
        (RunStatus::Failure, error_code::INTERRUPTED)
    };
    let error = run.error.unwrap().code;
    assert_eq!((run.status, error.as_str()), expected, "{point}: {log}");
    assert_eq!(executions(&markers[0]), 1, "{point}");
}

#[tokio::test]
async fn killed_between_the_steps_of_canceling() {
    for (point, is_committed) in [
        ("cancel.before_commit", false),
        ("store.cancel.commit", false),
        ("cancel.committed", true),
    ] {
        canceled_and_killed_at(point, is_committed).await;
    }
}

async fn replaced_and_killed_at(point: &str, is_committed: bool) {
    let directory = tempfile::tempdir().unwrap();
    let markers = ["old", "new"].map(|name| directory.path().join(name));
    let [old, new] = [0, 1].map(|index| counting_playbook(&markers[index]));
    // The second time that it is reached.
    let point_of_second = format!("{point}#2");
    let crash = [("DISPATCHER_CRASH_AT", point_of_second.as_str())];
    let mut service = Service::start_with(directory.path(), &crash).await.unwrap();
    let old = service.put_playbook("site.yml", old).await.unwrap();
    service.put_playbook("site.yml", new.clone()).await.unwrap_err();
    service.died().await.unwrap();

    let service = Service::start(directory.path()).await.unwrap();
    let path = format!("{BASE}/playbooks/site.yml");
    let named: PlaybookView = service.get(&path).await.unwrap();
    assert_eq!(named.url != old, is_committed, "{point}");
    let again = service.put_playbook("site.yml", new).await.unwrap();
    assert_eq!(again == named.url, is_committed, "{point}");
    let all: Page<PlaybookView> = service.get(&format!("{BASE}/playbooks")).await.unwrap();
    assert_eq!((all.meta.total, all.data[0].url.as_str()), (1, again.as_str()), "{point}");
    // Both contents are whole: the old one for runs that wait, the new one from now on.
    for (url, marker) in [(old, &markers[0]), (again, &markers[1])] {
        let id = service.dispatch(&service.item(&url, &json!({})), None).await.unwrap();
        let (run, log) = service.ended(id).await.unwrap();
        assert_eq!(run.status, RunStatus::Success, "{point}: {log}");
        assert_eq!(executions(marker), 1, "{point}");
    }
}

#[tokio::test]
async fn killed_between_the_steps_of_storing_a_playbook() {
    for (point, is_committed) in
        [("playbook.object.stored", false), ("playbook.row.committed", true)]
    {
        replaced_and_killed_at(point, is_committed).await;
    }
}
