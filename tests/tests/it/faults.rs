//! The process is killed between every two steps of dispatch, claim, event append, finish and
//! upload. Whatever was acknowledged is there afterwards, nothing runs twice, nothing is left
//! running, and every run ends.

use std::path::Path;

use dispatcher_tests::{home::Home, process::Service};
use dispatcher_wire::RunStatus;
use serde_json::json;

use crate::outcomes::sleepers;

/// Points inside the service and the local worker that one dispatched run passes.
const POINTS: [&str; 20] = [
    "dispatch.before_commit",
    "dispatch.committed",
    "execution.claim.committed",
    "worker.claimed",
    "worker.journaled",
    "worker.start_reported",
    "worker.starting",
    "worker.spawned",
    "worker.event_spooled",
    "worker.event_spooled#5",
    "execution.append.before",
    "execution.append.before#3",
    "execution.append.committed",
    "execution.append.committed#3",
    "worker.event_sent",
    "worker.ended",
    "execution.finish.before",
    "execution.finish.committed",
    "worker.finish_sent",
    "worker.removed",
];

/// Points around the commits of the store that the same run passes. The worker's first claim finds
/// nothing, since it is made at the start.
const STORE_POINTS: [&str; 8] = [
    "store.create.commit",
    "store.create.committed",
    "store.claim.commit#2",
    "store.claim.committed#2",
    "store.append.commit",
    "store.append.committed#3",
    "store.finish.commit",
    "store.finish.committed",
];

/// A playbook that leaves one line per execution in `marker` and then works for a moment.
pub(crate) fn counting_playbook(marker: &Path) -> String {
    format!(
        "- hosts: all\n  gather_facts: false\n  tasks:\n    \
         - name: count\n      ansible.builtin.shell: echo executed >> {0}\n    \
         - name: work\n      ansible.builtin.command: sleep 0.3\n",
        marker.display()
    )
}

/// How often the counting playbook was executed.
pub(crate) fn executions(marker: &Path) -> usize {
    std::fs::read_to_string(marker).unwrap_or_default().lines().count()
}

/// Lets the service die at this point of a run, starts it again and looks at what is left.
pub(crate) async fn killed_at(home: Home, point: &str) {
    let marker = home.path().join("marker");
    let crashing = [("DISPATCHER_CRASH_AT", point), ("EXECUTION_LEASE", "10")];
    let mut service = home.start_with(&crashing).await.unwrap();
    let url = service.put_playbook("count", counting_playbook(&marker)).await.unwrap();
    let item = service.item(&url, &json!({}));
    let answered = service.dispatch(&item, Some("once")).await;
    service.died().await.unwrap();

    let service = home.start().await.unwrap();
    // Repeated as a client would after a cut, byte by byte.
    let id = service.dispatch(&item, Some("once")).await.unwrap();
    if let Ok(acknowledged) = answered {
        assert_eq!(id, acknowledged, "{point}: a repeated request made another run");
    }
    let (run, log) = service.ended(id).await.unwrap();
    let times = executions(&marker);
    assert!(times <= 1, "{point}: executed {times} times");
    assert!(
        matches!(run.status, RunStatus::Success | RunStatus::Failure),
        "{point}: ended as {}: {log}",
        run.status
    );
    if run.status == RunStatus::Success {
        assert_eq!(times, 1, "{point}: a success without an execution");
    } else {
        let error = run.error.expect("a failure says why");
        assert_eq!(error.code, "DISPATCHER_INTERRUPTED", "{point}: {}", error.details);
    }
}

/// The points are shared out among a few tests, which run side by side.
async fn killed_at_every(points: &[&str], part: usize, of: usize) {
    for point in points.iter().skip(part).step_by(of) {
        killed_at(Home::standalone().unwrap(), point).await;
    }
}

#[tokio::test]
async fn killed_between_steps_1() {
    killed_at_every(&POINTS, 0, 4).await;
}

#[tokio::test]
async fn killed_between_steps_2() {
    killed_at_every(&POINTS, 1, 4).await;
}

#[tokio::test]
async fn killed_between_steps_3() {
    killed_at_every(&POINTS, 2, 4).await;
}

#[tokio::test]
async fn killed_between_steps_4() {
    killed_at_every(&POINTS, 3, 4).await;
}

#[tokio::test]
async fn killed_around_commits_1() {
    killed_at_every(&STORE_POINTS, 0, 2).await;
}

#[tokio::test]
async fn killed_around_commits_2() {
    killed_at_every(&STORE_POINTS, 1, 2).await;
}

#[tokio::test]
async fn killed_while_a_playbook_sleeps_and_while_a_task_is_detached() {
    let directory = tempfile::tempdir().unwrap();
    let mut service = Service::start(directory.path()).await.unwrap();
    let playbook = "- hosts: all\n  gather_facts: false\n  tasks:\n    \
                    - name: detach\n      ansible.builtin.command: sleep 3181\n      async: 4000\n      poll: 0\n    \
                    - name: busy\n      ansible.builtin.command: sleep 3182\n";
    let url = service.put_playbook("sleep", playbook).await.unwrap();
    let id = service.dispatch(&service.item(&url, &json!({})), None).await.unwrap();
    while sleepers(&["3182"]).is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        assert!(!service.run(id).await.unwrap().status.is_final(), "ended before it slept");
    }
    service.kill().await.unwrap();

    let service = Service::start(directory.path()).await.unwrap();
    let next =
        service.dispatch(&service.item(&url, &json!({ "timeout": 60 })), None).await.unwrap();
    let (run, log) = service.ended(id).await.unwrap();
    assert_eq!(run.status, RunStatus::Failure, "{log}");
    assert_eq!(run.error.unwrap().code, "DISPATCHER_INTERRUPTED");
    assert!(log.contains("TASK [detach]"), "what was printed before is kept: {log}");
    assert_eq!(service.cancel(next).await.unwrap(), 202);
    service.ended(next).await.unwrap();
    assert_eq!(sleepers(&["3181", "3182"]), [""; 0], "left running");
}

#[tokio::test]
async fn killed_at_any_moment() {
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    // Moments spread over start, claim, execution and end of a run.
    for moment in 0..8_u64 {
        let mut service = Service::start(directory.path()).await.unwrap();
        let marker = directory.path().join(format!("marker-{moment}"));
        let url = service.put_playbook("count", counting_playbook(&marker)).await.unwrap();
        let id = service.dispatch(&service.item(&url, &json!({})), None).await.unwrap();
        acknowledged.push((id, marker));
        tokio::time::sleep(std::time::Duration::from_millis(moment * moment * 60)).await;
        service.kill().await.unwrap();
    }
    let service = Service::start(directory.path()).await.unwrap();
    for (id, marker) in acknowledged {
        let (run, log) = service.ended(id).await.unwrap();
        let times = executions(&marker);
        assert!(times <= 1, "executed {times} times: {log}");
        assert!(run.status != RunStatus::Success || times == 1, "a success without an execution");
    }
}
