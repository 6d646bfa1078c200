//! Times of last authentication on their way from Redis to the database: nothing is lost and nothing
//! moves backwards, whoever dies in between.

use std::time::{Duration, Instant};

use auth_tracker::layout::{DIRTY, SYNCING};
use dispatcher_tests::{
    postgres::PrivatePostgres,
    redis::PrivateRedis,
    tracker::{Shared, Tracker, until},
};

/// A second long ago; more count from there.
const THEN: i64 = 1_700_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn many_are_written_at_once_and_one_after_the_interval() {
    let shared = Shared::start().await.unwrap();
    let tracker = shared.started(&["--interval", "60", "--threshold", "10"]).await.unwrap();
    has_drained(&tracker).await;
    for number in 0..10 {
        shared.authenticated(&format!("u{number}"), THEN + number).await.unwrap();
    }
    let begun = Instant::now();
    until("they are written", async || shared.written("u9").await.unwrap().is_some())
        .await
        .unwrap();
    assert!(begun.elapsed() < Duration::from_secs(45), "{:?}", begun.elapsed());
    assert_eq!(shared.written("u3").await.unwrap(), Some(THEN + 3));
    // The end of the process is a reason to write too.
    shared.authenticated("u3", THEN + 50).await.unwrap();
    shared.authenticated("last", THEN).await.unwrap();
    assert_eq!(tracker.guarded.stop().unwrap(), 0);
    assert_eq!(shared.written("last").await.unwrap(), Some(THEN));
    assert_eq!(shared.written("u3").await.unwrap(), Some(THEN + 50));
    assert_eq!(shared.unwritten().await.unwrap(), Vec::<String>::new());

    let tracker = shared.started(&["--interval", "2", "--threshold", "10"]).await.unwrap();
    has_drained(&tracker).await;
    shared.authenticated("alone", THEN).await.unwrap();
    until("it is written", async || shared.written("alone").await.unwrap().is_some())
        .await
        .unwrap();
}

/// Waits until a tracker has looked once for what is not written down, which it does when it becomes
/// active.
async fn has_drained(tracker: &Tracker) {
    let has_drained = async || {
        let metrics = tracker.probe("metrics").await;
        metrics.is_ok_and(|(_, text)| {
            text.contains("\ndispatcher_auth_drains_total{outcome=\"success\"}")
        })
    };
    until("it has looked once", has_drained).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_any_two_steps_loses_nothing() {
    let shared = Shared::start().await.unwrap();
    for (round, point) in ["store.last_auth.commit", "store.last_auth.committed"].iter().enumerate()
    {
        let (id, newer) = (format!("u{round}"), THEN + 60);
        shared.authenticated(&id, THEN + 30).await.unwrap();
        let dying = shared.tracker(&[("DISPATCHER_CRASH_AT", point)], &["--once"]).unwrap();
        dying.guarded.start().unwrap();
        assert_eq!(dying.guarded.reap().unwrap(), 128 + 9, "{}", dying.guarded.tail());
        let left = shared.unwritten().await.unwrap();
        assert!(left.len() == 1 && left[0].starts_with(SYNCING), "{left:?}");
        // Somebody came again meanwhile, and an instance that was slow tells of an older time.
        shared.authenticated(&id, newer).await.unwrap();
        shared.authenticated(&id, THEN).await.unwrap();
        let next = shared.tracker(&[], &["--once"]).unwrap();
        next.guarded.start().unwrap();
        assert_eq!(next.guarded.reap().unwrap(), 0, "{}", next.guarded.tail());
        assert_eq!(shared.written(&id).await.unwrap(), Some(newer));
        assert_eq!(shared.unwritten().await.unwrap(), Vec::<String>::new());
    }
    // A tracker that died before it did anything at all has only renamed.
    let mut client = shared.redis.client().await.unwrap();
    shared.authenticated("renamed", THEN).await.unwrap();
    let name = format!("{SYNCING}{THEN}");
    redis::cmd("RENAME").arg(DIRTY).arg(&name).exec_async(&mut client).await.unwrap();
    let tracker = shared.started(&[]).await.unwrap();
    until("it is written", async || shared.written("renamed").await.unwrap().is_some())
        .await
        .unwrap();
    until("nothing is left", async || shared.unwritten().await.unwrap().is_empty()).await.unwrap();
    drop(tracker);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_time_is_left_out() {
    let shared = Shared::start().await.unwrap();
    let mut client = shared.redis.client().await.unwrap();
    redis::pipe()
        .sadd(
            DIRTY,
            &["last_auth:user:nonsense", "last_auth:user:gone", "x", "last_auth:user:later"],
        )
        .set("last_auth:user:nonsense", "yesterday")
        .set("last_auth:user:later", "99999999999")
        .exec_async(&mut client)
        .await
        .unwrap();
    shared.authenticated("good", THEN).await.unwrap();
    let once = shared.tracker(&[], &["--once"]).unwrap();
    once.guarded.start().unwrap();
    assert_eq!(once.guarded.reap().unwrap(), 0, "{}", once.guarded.tail());
    assert_eq!(shared.written("good").await.unwrap(), Some(THEN));
    assert_eq!(shared.written("nonsense").await.unwrap(), None);
    let later = shared.written("later").await.unwrap().unwrap();
    assert!(later <= time::OffsetDateTime::now_utc().unix_timestamp(), "nobody comes tomorrow");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_away_gets_them_when_it_is_back() {
    let postgres = PrivatePostgres::start().unwrap();
    let database = postgres.migrated().await.unwrap();
    let redis = PrivateRedis::start().await.unwrap();
    let shared = Shared::with(database, redis).await.unwrap();
    let tracker = shared.started(&["--interval", "2", "--threshold", "1"]).await.unwrap();
    until("it is active", async || tracker.is_active().await).await.unwrap();
    tokio::task::block_in_place(|| postgres.crash()).unwrap();
    shared.authenticated("u", THEN).await.unwrap();
    until("it says what is missing", async || {
        tracker
            .probe("ready")
            .await
            .is_ok_and(|(status, text)| status == 503 && text.contains("lease"))
    })
    .await
    .unwrap();
    assert_eq!(shared.unwritten().await.unwrap().len(), 1);
    tokio::task::block_in_place(|| postgres.restart()).unwrap();
    until("it is written", async || shared.written("u").await.ok().flatten() == Some(THEN))
        .await
        .unwrap();
    until("nothing is left", async || shared.unwritten().await.unwrap().is_empty()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn once_fails_where_something_is_missing_and_the_loop_waits_for_it() {
    let shared = Shared::start().await.unwrap();
    let code = |variables: &[(&str, &str)]| {
        let once = shared.tracker(variables, &["--once"]).unwrap();
        once.guarded.start().unwrap();
        (once.guarded.reap().unwrap(), once.guarded.tail())
    };
    assert_eq!(code(&[]).0, 0);
    let (status, told) = code(&[("REDIS_URL", "")]);
    assert!(status == 1 && told.contains("REDIS_URL is required"), "{told}");
    let (status, told) = code(&[("DATABASE_URL", "sqlite:/tmp/x")]);
    assert!(status == 1 && told.contains("SQLite"), "{told}");
    shared.issuer.down();
    let (status, told) = code(&[]);
    assert!(status == 1 && told.contains("sso"), "{told}");
    shared.issuer.up().unwrap();
    shared.redis.process().kill().unwrap();
    let (status, told) = code(&[]);
    assert!(status == 1 && told.contains("redis"), "{told}");
    let waiting = shared.tracker(&[], &[]).unwrap();
    waiting.guarded.start().unwrap();
    waiting
        .guarded
        .until("said what is missing", async || {
            waiting.probe("ready").await.is_ok_and(|(_, text)| text.contains("redis"))
        })
        .await
        .unwrap();
    let lives = async || waiting.probe("live").await.is_ok_and(|(status, _)| status == 200);
    until("it lives", lives).await.unwrap();
    shared.redis.restart().await.unwrap();
    waiting.until_ready().await.unwrap();
    until("it publishes", async || shared.snapshot().await.is_ok()).await.unwrap();
}
