//! What played runners print, and what of it arrives.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use dispatcher_wire::RunStatus;

use crate::player::{Player, STATS};

#[tokio::test(flavor = "multi_thread")]
async fn records_arrive_in_order_and_nothing_is_left() {
    let mut player = Player::with_runner(&format!("echo plain\necho '{STATS}'")).await;
    let run_id = player.dispatch();
    player.start();
    let known = player.dispatcher.end_of(run_id).await;
    assert_eq!(known.names(), ["executor_on_start", "verbose", "playbook_on_stats"]);
    let start = known.records[0].event_data.clone().unwrap();
    assert_eq!(start.crc_dispatcher_correlation_id, Some(known.run.correlation_id.to_string()));
    assert_eq!(known.records[0].counter, -1);
    assert_eq!((known.log().as_str(), known.finished), ("plain\n", Some(RunStatus::Success)));
    player.nothing_on_disk().await;
    player.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_arrives_within_a_second_of_being_printed() {
    let mut player = Player::with_runner(&format!(
        "cd $DIR/../../../..\nfor line in 1 2 3 4 5; do\n\
         while [ ! -e go-$line ]; do sleep 0.05; done\n\
         echo $line\ntouch printed-$line\ndone\necho '{STATS}'"
    ))
    .await;
    let run_id = player.dispatch();
    player.start();
    let root = player.root.path().to_owned();
    let (mut took, mut log) = (Vec::new(), String::new());
    for line in 1..=5 {
        std::fs::write(root.join(format!("go-{line}")), "").unwrap();
        let printed = root.join(format!("printed-{line}"));
        crate::player::eventually("it prints", || printed.exists()).await;
        log.push_str(&format!("{line}\n"));
        let since = Instant::now();
        player.dispatcher.until(run_id, |known| known.log() == log).await;
        took.push(since.elapsed());
    }
    // The one in the middle: one or another a busy machine makes late.
    took.sort();
    assert!(took[2] < Duration::from_secs(1), "{took:?}");
    player.dispatcher.end_of(run_id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_arrives_as_text_that_every_store_takes() {
    let script = format!(r"printf 'a\000b\377\n{{\047x\047: 1}}\nTraceback\n'; echo '{STATS}'");
    let mut player = Player::with_runner(&script).await;
    let run_id = player.dispatch();
    player.start();
    let known = player.dispatcher.end_of(run_id).await;
    assert_eq!(known.log(), "a\u{fffd}b\u{fffd}\n{'x': 1}\nTraceback\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_and_absence_change_nothing() {
    let script =
        format!("i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; echo '{STATS}'");
    let mut player = Player::with_runner(&script).await;
    player.dispatcher.lossy.store(true, Ordering::SeqCst);
    let run_id = player.dispatch();
    player.start();
    player.dispatcher.until(run_id, |known| known.names().contains(&"executor_on_start")).await;
    player.dispatcher.away.store(true, Ordering::SeqCst);
    let refused = || player.dispatcher.refused.load(Ordering::SeqCst);
    crate::player::eventually("it is tried again", || refused() >= 3).await;
    player.dispatcher.away.store(false, Ordering::SeqCst);
    let known = player.dispatcher.end_of(run_id).await;
    let expected: String = (0..3000).map(|line| format!("line {line}\n")).collect();
    assert_eq!(known.log(), expected);
    assert_eq!(known.finished, Some(RunStatus::Success));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_ends_early_is_a_failure_that_says_why() {
    for (script, code, told) in [
        (
            "echo '[ERROR]: YAML parsing failed'; exit 4",
            "ANSIBLE_YAML_VALIDATION_FAILED",
            "parsing failed",
        ),
        (
            "echo 'it broke' >&2; exit 7",
            "UNDEFINED_ERROR",
            "status 7 before the playbook did:\nit broke",
        ),
        ("kill -9 $$", "UNDEFINED_ERROR", "was killed"),
        ("exit 0", "UNDEFINED_ERROR", "status 0"),
    ] {
        let mut player = Player::with_runner(script).await;
        let run_id = player.dispatch();
        player.start();
        let known = player.dispatcher.end_of(run_id).await;
        let error = known.error().unwrap();
        assert_eq!(error.0, code);
        assert!(error.1.contains(told), "{error:?}");
        assert_eq!(known.finished, Some(RunStatus::Failure));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_runner_is_a_failure_with_the_cure() {
    let mut player = Player::with_runner("").await;
    player.config.ansible_runner = Some("/nonexistent/ansible-runner".into());
    let run_id = player.dispatch();
    player.start();
    let error = player.dispatcher.end_of(run_id).await.error().unwrap();
    assert!(error.1.contains("/nonexistent") && error.1.contains("make deps"), "{error:?}");
}
