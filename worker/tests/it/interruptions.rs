//! Cancellation, timeouts, lost claims, stops and crashes of the worker; ansible-runner is played.

use std::{sync::atomic::Ordering, time::Duration};

use dispatcher_wire::RunStatus;

use crate::player::{Player, STATS, eventually, processes_of};

/// Starts processes that do not want to end: in another session, without a parent, deaf to SIGTERM.
const STUBBORN: &str = "trap '' TERM; setsid sh -c 'sleep 1000 & sleep 1000' & \
                        (sleep 1000 &) ; echo started; while :; do sleep 1000; done";

async fn stubborn() -> (Player, uuid::Uuid) {
    let mut player = Player::with_runner(STUBBORN).await;
    player.config.grace = Duration::from_millis(300);
    let run_id = player.dispatch();
    player.start();
    player.dispatcher.until(run_id, |known| known.log() == "started\n").await;
    eventually("all of them are there", || processes_of(run_id).len() >= 4).await;
    (player, run_id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_ends_everything() {
    let (player, run_id) = stubborn().await;
    player.dispatcher.cancel(run_id);
    // Soon: its processes would go on for a quarter of an hour.
    let known = player.dispatcher.end_of(run_id).await;
    assert_eq!(known.finished, Some(RunStatus::Canceled));
    assert_eq!(known.error().unwrap().0, "DISPATCHER_CANCELED");
    assert_eq!(processes_of(run_id), Vec::<String>::new());
    player.nothing_on_disk().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_shed_every_sign_are_ended_where_there_is_a_cgroup() {
    let script = "(env -i /bin/sh -c 'echo $$; exec setsid sleep 1000' > $DIR/../../../pid &); \
                  while [ ! -s $DIR/../../../pid ]; do sleep 0.05; done; echo started; sleep 1000";
    let mut player = Player::with_runner(script).await;
    let run_id = player.dispatch();
    player.start();
    player.dispatcher.until(run_id, |known| known.log() == "started\n").await;
    let pid = std::fs::read_to_string(player.config.work_dir.join("pid")).unwrap();
    let pid = pid.trim();
    let alive = || std::path::Path::new("/proc").join(pid).join("exe").exists();
    assert!(alive());
    let journal = player.config.work_dir.join(format!("runs/{run_id}/journal.json"));
    let has_cgroup = std::fs::read_to_string(journal).unwrap().contains("\"cgroup\"");
    player.dispatcher.cancel(run_id);
    player.dispatcher.end_of(run_id).await;
    let signs = std::fs::read_to_string(format!("/proc/{pid}/environ")).unwrap_or_default();
    assert!(!signs.contains("DISPATCHER_RUN_ID"));
    if has_cgroup {
        assert!(!alive());
    } else {
        let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_ends_everything() {
    let mut player = Player::with_runner(STUBBORN).await;
    player.config.grace = Duration::from_millis(300);
    let run_id = player.dispatcher.dispatch(&player.web.url("/play.yml"), None, 2);
    player.start();
    let known = player.dispatcher.end_of(run_id).await;
    assert_eq!(known.finished, Some(RunStatus::Timeout));
    assert_eq!(known.error().unwrap().0, "DISPATCHER_TIMEOUT");
    assert_eq!(processes_of(run_id), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_of_the_worker_ends_everything_and_says_so() {
    let (mut player, run_id) = stubborn().await;
    player.stop().await;
    let known = player.dispatcher.get(run_id);
    assert_eq!(known.finished, Some(RunStatus::Failure));
    let (code, details) = known.error().unwrap();
    assert_eq!(code, "DISPATCHER_INTERRUPTED");
    assert!(details.contains("the worker was stopped"));
    assert_eq!(processes_of(run_id), Vec::<String>::new());
    player.nothing_on_disk().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_claim_ends_everything_and_reports_nothing() {
    let (player, run_id) = stubborn().await;
    let records = player.dispatcher.get(run_id).records.len();
    player.dispatcher.take_away(run_id);
    // The worker hears of it with its next sign of life.
    player.nothing_on_disk().await;
    eventually("the processes are gone", || processes_of(run_id).is_empty()).await;
    let known = player.dispatcher.get(run_id);
    assert_eq!((known.records.len(), known.finished), (records, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_the_service_closed_is_ended_and_settled() {
    let (player, run_id) = stubborn().await;
    player.dispatcher.close(run_id, RunStatus::Timeout);
    player.nothing_on_disk().await;
    assert_eq!(processes_of(run_id), Vec::<String>::new());
    assert_eq!(player.dispatcher.get(run_id).finished, Some(RunStatus::Timeout));
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_are_canceled_or_late_are_not_started() {
    let mut player = Player::with_runner("touch $DIR/../../../started").await;
    let canceled = player.dispatch();
    player.dispatcher.cancel(canceled);
    let late = player.dispatcher.dispatch(&player.web.url("/play.yml"), None, -1);
    player.start();
    for (run_id, status) in [(canceled, RunStatus::Canceled), (late, RunStatus::Timeout)] {
        let known = player.dispatcher.end_of(run_id).await;
        assert_eq!(known.finished, Some(status));
        assert_eq!(known.names(), ["executor_on_start", "executor_on_failed"]);
    }
    assert!(!player.config.work_dir.join("started").exists());
    assert_eq!(player.web.count("/play.yml"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_leftovers_are_killed_and_the_run_is_reported_once() {
    let (mut player, run_id) = stubborn().await;
    player.crash().await;
    assert!(!processes_of(run_id).is_empty());
    let waiting = player.dispatch();
    player.start();
    let known = player.dispatcher.end_of(run_id).await;
    assert_eq!(processes_of(run_id), Vec::<String>::new());
    assert_eq!(known.error().unwrap().0, "DISPATCHER_INTERRUPTED");
    assert_eq!(known.log(), "started\n");
    // The next one is begun only then.
    player.dispatcher.until(waiting, |known| known.log() == "started\n").await;
    player.dispatcher.cancel(waiting);
    player.dispatcher.end_of(waiting).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_during_a_crash_is_reported_as_such() {
    let (mut player, run_id) = stubborn().await;
    player.crash().await;
    player.dispatcher.cancel(run_id);
    player.start();
    assert_eq!(player.dispatcher.end_of(run_id).await.finished, Some(RunStatus::Canceled));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_survives_a_crash_while_the_service_is_away() {
    let script = format!(
        "echo done; while [ ! -e $DIR/../../../go ]; do sleep 0.05; done; \
         echo '{STATS}'; touch $DIR/../../../ended"
    );
    let mut player = Player::with_runner(&script).await;
    let run_id = player.dispatch();
    player.start();
    player.dispatcher.until(run_id, |known| !known.records.is_empty()).await;
    player.dispatcher.away.store(true, Ordering::SeqCst);
    let work_dir = player.config.work_dir.clone();
    std::fs::write(work_dir.join("go"), "").unwrap();
    eventually("it ends", || work_dir.join("ended").exists()).await;
    let journal = work_dir.join(format!("runs/{run_id}/journal.json"));
    eventually("the end is journaled", || {
        std::fs::read_to_string(&journal).unwrap().contains("\"ended\"")
    })
    .await;
    eventually("secrets are removed", || !journal.with_file_name("private").exists()).await;
    player.crash().await;
    player.dispatcher.away.store(false, Ordering::SeqCst);
    player.start();
    let known = player.dispatcher.end_of(run_id).await;
    assert_eq!((known.log().as_str(), known.finished), ("done\n", Some(RunStatus::Success)));
    player.nothing_on_disk().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_that_lost_records_goes_on_after_what_the_service_has() {
    let (mut player, run_id) = stubborn().await;
    player.crash().await;
    let spool = player.config.work_dir.join(format!("runs/{run_id}/spool.ndjson"));
    std::fs::write(&spool, "").unwrap();
    player.start();
    let known = player.dispatcher.end_of(run_id).await;
    assert_eq!(known.names(), ["executor_on_start", "verbose", "executor_on_failed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_playbook_at_a_time() {
    let lock = "mkdir $DIR/../../../busy || echo TOGETHER; sleep 0.2; rmdir $DIR/../../../busy";
    let mut player = Player::with_runner(&format!("{lock}; echo '{STATS}'")).await;
    let runs: Vec<_> = (0..3).map(|_| player.dispatch()).collect();
    player.start();
    for run_id in runs {
        let known = player.dispatcher.end_of(run_id).await;
        assert_eq!((known.log().as_str(), known.finished), ("", Some(RunStatus::Success)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_left_on_purpose_stay_after_a_normal_end() {
    let script = format!("(setsid sleep 30 >/dev/null 2>&1 &); echo '{STATS}'");
    let mut player = Player::with_runner(&script).await;
    let run_id = player.dispatch();
    player.start();
    player.dispatcher.end_of(run_id).await;
    player.nothing_on_disk().await;
    assert_eq!(processes_of(run_id).len(), 1);
    for entry in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        let marker = format!("DISPATCHER_RUN_ID={run_id}");
        if String::from_utf8_lossy(&environment).contains(&marker) {
            let pid = entry.file_name().to_str().unwrap().parse().unwrap();
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_worker_in_one_directory_is_refused() {
    let mut player = Player::with_runner("").await;
    player.start();
    let lock = player.config.work_dir.join("lock");
    eventually("the first one works", || lock.exists()).await;
    let link = std::sync::Arc::clone(&player.dispatcher);
    let second = dispatcher_worker::run(player.config.clone(), link, Default::default()).await;
    assert!(second.unwrap_err().to_string().contains("in use by another worker"));
}
