//! The authentication state on its way from the database and the SSO server to instances, by real
//! trackers and a real Redis.

use std::time::{Duration, Instant};

use auth_tracker::{
    feed::{REFETCH_WAIT, Way},
    layout::{SNAPSHOT, VERSION},
};
use dispatcher_tests::{
    authority::Authority,
    jwt::Algorithm,
    oidc::{Mode, PathStyle},
    ports,
    postgres::Database,
    process::PATIENCE,
    redis::{Options, PrivateRedis},
    tracker::{InstanceFeed, Shared, until},
};

const SECOND: Duration = Duration::from_secs(1);

async fn on_the_shared_way(instance: &InstanceFeed) {
    until("the tracker is followed", async || instance.feed.way() == Way::Shared).await.unwrap();
}

fn knows(instance: &InstanceFeed, kid: &str) -> bool {
    instance.feed.current().state.knows(kid)
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_come_and_go_within_a_second() {
    let shared = Shared::start().await.unwrap();
    let _tracker = shared.started(&[]).await.unwrap();
    let instances = [shared.instance().unwrap(), shared.instance().unwrap()];
    for instance in &instances {
        on_the_shared_way(instance).await;
    }
    // The least of some: a busy machine makes each of them longer, and none shorter.
    let mut shortest = PATIENCE;
    for _ in 0..5 {
        let key = shared.make_key().await.unwrap();
        for instance in &instances {
            instance.until_has(&key, true).await.unwrap();
        }
        shared.revoke_key(&key).await.unwrap();
        let begun = Instant::now();
        for instance in &instances {
            instance.until_has(&key, false).await.unwrap();
        }
        shortest = shortest.min(begun.elapsed());
    }
    assert!(shortest < SECOND, "{shortest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_the_sso_server_rotate_and_forged_ids_ask_once() {
    let shared = Shared::start().await.unwrap();
    let _tracker = shared.started(&[]).await.unwrap();
    let instances = [shared.instance().unwrap(), shared.instance().unwrap()];
    for instance in &instances {
        on_the_shared_way(instance).await;
        until("the first key is known", async || knows(instance, "key-1")).await.unwrap();
    }
    shared.issuer.rotate("key-2").unwrap();
    shared.issuer.add_key("key-3", Algorithm::Es256).unwrap();
    let (before, since) = (shared.issuer.requests().keys, Instant::now());
    let asking: Vec<_> = (0..1_000)
        .map(|number| {
            let feed = instances[number % 2].feed.clone();
            let kid = if number < 2 { "key-2".to_owned() } else { format!("forged-{number}") };
            tokio::spawn(async move { feed.request_refetch(Some(&kid)).await.state.knows(&kid) })
        })
        .collect();
    let mut known = 0;
    for asked in asking {
        known += usize::from(asked.await.unwrap());
    }
    assert!(known == 2 || since.elapsed() > REFETCH_WAIT, "whoever asks waits for the new key");
    for instance in &instances {
        until("the new key is known", async || {
            instance.feed.request_refetch(Some("key-2")).await.state.knows("key-2")
        })
        .await
        .unwrap();
    }
    let fetches = shared.issuer.requests().keys - before;
    let most = 1 + since.elapsed().as_secs() / 10;
    assert!((1..=most).contains(&(fetches as u64)), "a thousand questions, {fetches} fetches");
    for instance in &instances {
        assert!(knows(instance, "key-3") && !knows(instance, "key-1"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_path_styles_are_found_and_an_unwell_server_takes_no_key_away() {
    let shared = Shared::start().await.unwrap();
    shared.issuer.set_style(PathStyle::Auth);
    let tracker = shared.tracker(&[("SSO_REFRESH", "5")], &[]).unwrap();
    tracker.guarded.start().unwrap();
    let published = async |kid: &str| {
        let state = shared.snapshot().await.map(|(_, state)| state);
        state.is_ok_and(|state| state.knows(kid))
    };
    until("the key is published", async || published("key-1").await).await.unwrap();
    let (_, state) = shared.snapshot().await.unwrap();
    assert_eq!(state.sso_issuers, [shared.issuer.issuer()]);
    for mode in [Mode::Failing, Mode::Garbage, Mode::Slow(Duration::from_secs(30))] {
        shared.issuer.set_mode(mode);
        let before = shared.issuer.requests().discovery;
        until("it was asked", async || shared.issuer.requests().discovery > before).await.unwrap();
        let (snapshot, _) = shared.snapshot().await.unwrap();
        let newer = async || {
            shared.snapshot().await.is_ok_and(|(newer, _)| newer.version > snapshot.version)
        };
        until("it was published again", newer).await.unwrap();
        assert!(published("key-1").await, "{mode:?}");
    }
    shared.issuer.down();
    shared.issuer.set_mode(Mode::Answering);
    shared.issuer.set_style(PathStyle::Plain);
    shared.issuer.rotate("key-2").unwrap();
    shared.issuer.up().unwrap();
    until("the moved realm is found", async || published("key-2").await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_was_emptied_or_tampered_with_changes_nothing() {
    let shared = Shared::start().await.unwrap();
    let _tracker = shared.started(&[]).await.unwrap();
    let instance = shared.instance().unwrap();
    on_the_shared_way(&instance).await;
    let revoked = shared.make_key().await.unwrap();
    instance.until_has(&revoked, true).await.unwrap();
    let mut client = shared.redis.client().await.unwrap();
    let get = redis::cmd("GET").arg(SNAPSHOT).clone();
    let old: String = get.query_async(&mut client).await.unwrap();
    let live = shared.make_key().await.unwrap();
    shared.revoke_key(&revoked).await.unwrap();
    instance.until_has(&live, true).await.unwrap();
    instance.until_has(&revoked, false).await.unwrap();
    let forged = old.replacen(&revoked, "x", 1);
    let mut shortest = PATIENCE;
    for (version, text) in [
        (None, ""),
        (Some("99999999999999999999"), forged.as_str()),
        (Some("99999999999999999999"), old.as_str()),
        (Some("1"), old.as_str()),
        (Some("not a number"), "not a snapshot"),
    ] {
        shared.redis.flush().await.unwrap();
        if let Some(version) = version {
            redis::pipe()
                .set(VERSION, version)
                .set(SNAPSHOT, text)
                .publish(auth_tracker::layout::CHANGED, version)
                .exec_async(&mut client)
                .await
                .unwrap();
        }
        let healed = async || {
            assert!(instance.has(&live) && !instance.has(&revoked), "{version:?}");
            let genuine = shared.snapshot().await;
            genuine.is_ok_and(|(_, state)| state.service_keys.iter().any(|key| key.id == live))
        };
        let took = until("the tracker has put it right", healed).await.unwrap();
        shortest = shortest.min(took);
    }
    // Well before it would have published again anyway.
    assert!(shortest < Duration::from_secs(10), "{shortest:?}");
    let next = shared.make_key().await.unwrap();
    instance.until_has(&next, true).await.unwrap();
    assert_eq!(instance.feed.way(), Way::Shared);
}

/// The process that the lease is given to, its epoch, and whether it is over or was given back.
async fn lease(shared: &Shared) -> (i32, i64, bool) {
    const LEASE: &str = "
        SELECT holder_name, epoch, held_until < clock_timestamp()
        FROM leases WHERE name = 'auth-tracker'";
    let row = shared.database.client().await.unwrap().query_one(LEASE, &[]).await.unwrap();
    let pid = row.get::<_, &str>(0).rsplit('-').next().unwrap().parse().unwrap();
    (pid, row.get(1), row.get(2))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stand_by_takes_over_and_a_paused_tracker_publishes_nothing_more() {
    let shared = Shared::start().await.unwrap();
    let first = shared.started(&[]).await.unwrap();
    until("the first is active", async || first.is_active().await).await.unwrap();
    let second = shared.started(&[]).await.unwrap();
    // On a busy machine the first may have been too late, and the second have taken over already.
    let (holder, ..) = lease(&shared).await;
    let is_second = second.guarded.pid().unwrap().as_raw_nonzero().get() == holder;
    let (first, second) = if is_second { (second, first) } else { (first, second) };
    until("the one is active", async || first.is_active().await).await.unwrap();
    until("the other stands by", async || !second.is_active().await).await.unwrap();
    let instance = shared.instance().unwrap();
    on_the_shared_way(&instance).await;
    let (before, _) = shared.snapshot().await.unwrap();
    first.guarded.pause().unwrap();
    until("the second is active", async || second.is_active().await).await.unwrap();
    let taken_over = async || {
        shared.snapshot().await.is_ok_and(|(now, _)| now.version >> 32 > before.version >> 32)
    };
    until("the second has published", taken_over).await.unwrap();
    let key = shared.make_key().await.unwrap();
    instance.until_has(&key, true).await.unwrap();
    first.guarded.resume().unwrap();
    until("the first stands by", async || {
        first.probe("ready").await.is_ok_and(|(status, _)| status == 200)
            && !first.is_active().await
    })
    .await
    .unwrap();
    let (after, _) = shared.snapshot().await.unwrap();
    assert!(after.version >> 32 > before.version >> 32, "the paused one has published");
    until("the second is still active", async || second.is_active().await).await.unwrap();
    assert!(instance.has(&key));
    // One that ends well hands over at once: it gives its lease back, and nobody waits for its end.
    let (_, epoch, _) = lease(&shared).await;
    assert_eq!(second.guarded.stop().unwrap(), 0);
    let (_, later, is_free) = lease(&shared).await;
    assert!(is_free || later > epoch, "it keeps a lease that it does not need");
    until("the first is active", async || first.is_active().await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_tracker_instances_ask_the_sources_themselves() {
    let shared = Shared::start().await.unwrap();
    let tracker = shared.started(&[]).await.unwrap();
    let instance = shared.instance().unwrap();
    on_the_shared_way(&instance).await;
    let key = shared.make_key().await.unwrap();
    instance.until_has(&key, true).await.unwrap();
    tracker.guarded.kill().unwrap();
    let killed = Instant::now();
    shared.revoke_key(&key).await.unwrap();
    instance.until_has(&key, false).await.unwrap();
    assert!(killed.elapsed() < Duration::from_secs(60), "{:?}", killed.elapsed());
    assert_eq!(instance.feed.way(), Way::Direct);
    shared.issuer.rotate("key-2").unwrap();
    until("the new key is known", async || {
        instance.feed.request_refetch(Some("key-2")).await.state.knows("key-2")
    })
    .await
    .unwrap();
    shared.redis.process().kill().unwrap();
    let next = shared.make_key().await.unwrap();
    let took = instance.until_has(&next, true).await.unwrap();
    assert!(took < Duration::from_secs(30), "{took:?}");
    shared.redis.restart().await.unwrap();
    tracker.guarded.start().unwrap();
    on_the_shared_way(&instance).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_may_want_tls_and_a_password_which_nobody_sees() {
    let authority = Authority::new().unwrap();
    let options = Options { password: Some("hunter2"), authority: Some(&authority) };
    let redis = PrivateRedis::start_with(&options).await.unwrap();
    let shared = Shared::with(Database::migrated().await.unwrap(), redis).await.unwrap();
    let file = shared.redis.authority().unwrap().display().to_string();
    let tracker = shared.tracker(&[("TLS_CA_FILE", &file)], &[]).unwrap();
    tracker.guarded.start().unwrap();
    tracker.until_ready().await.unwrap();
    let instance = shared.instance().unwrap();
    on_the_shared_way(&instance).await;
    let untrusting = shared.tracker(&[], &["--once"]).unwrap();
    untrusting.guarded.start().unwrap();
    assert_eq!(untrusting.guarded.reap().unwrap(), 1);
    for tail in [tracker.guarded.tail(), untrusting.guarded.tail()] {
        assert!(!tail.contains("hunter2"), "{tail}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_redis_the_one_that_takes_writes_is_asked() {
    let second = PrivateRedis::start().await.unwrap();
    let mut shared = Shared::start().await.unwrap();
    second.follow(Some(&shared.redis)).await.unwrap();
    // The replica first, and one that is never there.
    let (ports, dead) = ([second.port(), shared.redis.port()], ports::free().unwrap());
    let [replica, main] = ports;
    shared.redis_url = format!("redis://127.0.0.1:{dead},127.0.0.1:{replica},127.0.0.1:{main}/0");
    let _tracker = shared.started(&[]).await.unwrap();
    let instance = shared.instance().unwrap();
    on_the_shared_way(&instance).await;
    let key = shared.make_key().await.unwrap();
    instance.until_has(&key, true).await.unwrap();
    let copied = async |at: &PrivateRedis| {
        let mut client = at.client().await.unwrap();
        redis::cmd("EXISTS").arg(SNAPSHOT).query_async::<u8>(&mut client).await.unwrap() == 1
    };
    assert!(copied(&shared.redis).await);
    // Its operator makes the other one what takes writes.
    shared.redis.process().kill().unwrap();
    second.follow(None).await.unwrap();
    second.flush().await.unwrap();
    until("the other one is used", async || copied(&second).await).await.unwrap();
    on_the_shared_way(&instance).await;
    let key = shared.make_key().await.unwrap();
    instance.until_has(&key, true).await.unwrap();
    // The first comes back and does not know yet that it is not asked any more.
    shared.redis.restart().await.unwrap();
    shared.redis.follow(Some(&second)).await.unwrap();
    shared.revoke_key(&key).await.unwrap();
    instance.until_has(&key, false).await.unwrap();
    on_the_shared_way(&instance).await;
}
