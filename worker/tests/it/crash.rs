//! The worker's process is killed at each of its crash points, started again, and the run is
//! looked at: nothing runs twice, nothing is lost, nothing is left.

use std::{os::unix::process::ExitStatusExt, path::Path, sync::Arc};

use dispatcher_wire::RunStatus;
use dispatcher_worker::AgentConfig;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    dispatcher::{Dispatcher, Known},
    player::{STATS, processes_of, write_runner},
    web::Web,
};

const ROOT: &str = "DISPATCHER_TEST_ROOT";
const RUN: &str = "DISPATCHER_TEST_RUN";

/// Not a test of its own: the worker's process, which the tests below start. It ends when the run
/// has ended and nothing is left of it.
#[tokio::test(flavor = "multi_thread")]
async fn worker_process() {
    let Some(root) = std::env::var_os(ROOT) else { return };
    let root = Path::new(&root);
    let run_id: Uuid = std::env::var(RUN).unwrap().parse().unwrap();
    let dispatcher = Dispatcher::open(&root.join("dispatcher.json"));
    let mut config = AgentConfig::new(root.join("work"));
    config.ansible_runner = Some(root.join("ansible-runner"));
    config.grace = std::time::Duration::from_secs(1);
    let shutdown = CancellationToken::new();
    let (link, token) = (Arc::clone(&dispatcher), shutdown.clone());
    let agent = tokio::spawn(dispatcher_worker::run(config, link, token));
    dispatcher.end_of(run_id).await;
    let runs = root.join("work/runs");
    while std::fs::read_dir(&runs).unwrap().count() > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    shutdown.cancel();
    agent.await.unwrap().unwrap();
}

struct Crashed {
    known: Known,
    starts: usize,
}

/// Kills the worker at this point and lets another one go on.
async fn crash_at(point: &str, script: &str) -> Crashed {
    let root = tempfile::tempdir().unwrap();
    let web = Web::start().await;
    let url = web.playbook("/play.yml", "- hosts: all\n");
    write_runner(root.path(), &format!("echo start >> {}/starts\n{script}", root.path().display()));
    let file = root.path().join("dispatcher.json");
    let run_id = Dispatcher::open(&file).dispatch(&url, None, 600);

    let first = worker(root.path(), run_id, Some(point)).await;
    assert_eq!(first.signal(), Some(9), "{point}: the worker was not killed there: {first}");
    // A claim whose answer was lost is handed out again when its lease is over.
    if point == "worker.claimed" {
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("\"claims\":1", "\"claims\":0")).unwrap();
    }
    let second = worker(root.path(), run_id, None).await;
    assert!(second.success(), "{point}: {second}");
    assert_eq!(processes_of(run_id), Vec::<String>::new(), "{point}");
    let starts = std::fs::read_to_string(root.path().join("starts")).unwrap_or_default();
    Crashed { known: Dispatcher::open(&file).get(run_id), starts: starts.lines().count() }
}

async fn worker(root: &Path, run_id: Uuid, crash_at: Option<&str>) -> std::process::ExitStatus {
    let mut command = tokio::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "crash::worker_process"]).env(ROOT, root).env(RUN, run_id.to_string());
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    if let Some(point) = crash_at {
        command.env("DISPATCHER_CRASH_AT", point);
    }
    command.kill_on_drop(true).status().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_start_the_run_is_started_once_after_all() {
    let script = format!("echo out; echo '{STATS}'");
    for point in
        ["worker.claimed", "worker.journaled", "worker.event_sent", "worker.start_reported"]
    {
        let Crashed { known, starts } = crash_at(point, &script).await;
        assert_eq!((starts, known.finished), (1, Some(RunStatus::Success)), "{point}");
        assert_eq!(known.names(), ["executor_on_start", "verbose", "playbook_on_stats"], "{point}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn from_the_start_on_the_run_is_never_started_again() {
    let script = format!("echo out; sleep 1000; echo '{STATS}'");
    for (point, most) in
        [("worker.starting", 0), ("worker.spawned", 0), ("worker.event_spooled", 1)]
    {
        let Crashed { known, starts } = crash_at(point, &script).await;
        assert_eq!((starts, known.finished), (most, Some(RunStatus::Failure)), "{point}");
        assert_eq!(known.error().unwrap().0, "DISPATCHER_INTERRUPTED", "{point}");
        assert_eq!(known.names().first(), Some(&"executor_on_start"), "{point}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_end_the_real_result_is_reported() {
    let script = format!("echo out; echo '{STATS}'");
    for point in ["worker.ended", "worker.finish_sent", "worker.removed"] {
        let Crashed { known, starts } = crash_at(point, &script).await;
        assert_eq!((starts, known.finished), (1, Some(RunStatus::Success)), "{point}");
        assert_eq!(known.names(), ["executor_on_start", "verbose", "playbook_on_stats"], "{point}");
    }
}
