//! The process is killed between every two steps of dispatch, claim, event append, finish and
//! upload. Whatever was acknowledged is there afterwards, nothing runs twice, nothing is left
//! running, and every run ends.

use std::path::Path;

use dispatcher_tests::process::Service;
use dispatcher_wire::RunStatus;
use serde_json::json;

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

/// A playbook that leaves one line per execution in `marker` and then works for a moment.
fn counting_playbook(marker: &Path) -> String {
    format!(
        "- hosts: all\n  gather_facts: false\n  tasks:\n    \
         - name: count\n      ansible.builtin.shell: echo executed >> {0}\n    \
         - name: work\n      ansible.builtin.command: sleep 0.3\n",
        marker.display()
    )
}

/// How often the counting playbook was executed.
fn executions(marker: &Path) -> usize {
    std::fs::read_to_string(marker).unwrap_or_default().lines().count()
}

async fn killed_at(point: &str) {
    let directory = tempfile::tempdir().unwrap();
    let marker = directory.path().join("marker");
    let mut service =
        Service::start_with(directory.path(), &[("DISPATCHER_CRASH_AT", point)]).await.unwrap();
    let url = service.put_playbook("count", counting_playbook(&marker)).await.unwrap();
    let item = service.item(&url, &json!({}));
    let answered = service.dispatch(&item, Some("once")).await;
    service.died().await.unwrap();

    let service = Service::start(directory.path()).await.unwrap();
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
