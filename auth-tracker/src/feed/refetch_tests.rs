//! Tokens whose key nobody knows, on a clock that tests turn.

use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::{
    tests::{Instance, publish, sso_key, state},
    *,
};

/// What a tracker publishes that fetched this key at this second.
fn fetched(kid: &str, second: i64) -> AuthState {
    AuthState {
        sso_keys: vec![sso_key(kid)],
        sso_fetched_at: Some(OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(second)),
        ..state(1, &[])
    }
}

/// Whether the key is known then, and how long that took to find out.
async fn asked(instance: &Instance, kid: &str) -> (bool, Duration) {
    let begun = Instant::now();
    let held = instance.feed.request_refetch(Some(kid)).await;
    (held.state.knows(kid), begun.elapsed())
}

const AT_ONCE: Duration = Duration::from_millis(10);

#[tokio::test(start_paused = true)]
async fn a_thousand_unknown_key_ids_ask_the_tracker_once() {
    let instance = Instance::with(|stub, clock| publish(stub, clock, 5, &fetched("k1", 10))).await;
    let asking: Vec<_> = (0..1_000)
        .map(|number| {
            let feed = Arc::clone(&instance.feed);
            let kid = if number == 0 { "k2".to_owned() } else { format!("forged-{number}") };
            tokio::spawn(async move { feed.request_refetch(Some(&kid)).await.state.knows(&kid) })
        })
        .collect();
    instance.pass(1).await;
    instance.publish(6, &fetched("k2", 20));
    let begun = Instant::now();
    let mut known = 0;
    for asked in asking {
        known += usize::from(asked.await.unwrap());
    }
    assert_eq!((known, instance.stub.wanted.load(Ordering::Relaxed)), (1, 1));
    assert!(begun.elapsed() < Duration::from_secs(1), "nobody waits longer than for the answer");
    let (_, took) = asked(&instance, "forged").await;
    assert!(took < AT_ONCE, "what is asked for again is answered at once, not after {took:?}");
    let version = instance.keep_publishing(7, &fetched("k2", 20), 10).await;
    instance.publish(version, &fetched("k2", 20));
    let (_, took) = asked(&instance, "forged").await;
    assert_eq!(instance.stub.wanted.load(Ordering::Relaxed), 2);
    assert!(took >= REFETCH_WAIT, "it might have come: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn what_another_instance_asked_for_is_waited_for_until_it_is_answered() {
    let instance = Instance::with(|stub, clock| publish(stub, clock, 5, &fetched("k1", 10))).await;
    instance.stub.world().asked_ago = Duration::from_secs(2);
    let (known, took) = asked(&instance, "k2").await;
    let left = REFETCH_WAIT - Duration::from_secs(2);
    assert!(!known && took >= left && took < left + AT_ONCE, "{took:?}");
    instance.keep_publishing(6, &fetched("k1", 10), 10).await;

    let now = instance.clock.now().unix_timestamp();
    instance.publish(20, &fetched("k1", now));
    instance.pass(2).await;
    instance.stub.world().asked_ago = Duration::from_secs(4);
    let (_, took) = asked(&instance, "k2").await;
    assert!(took < AT_ONCE, "answered before it was asked here: {took:?}");

    instance.publish(21, &fetched("k1", now));
    instance.pass(7).await;
    instance.stub.world().asked_ago = Duration::ZERO;
    let feed = Arc::clone(&instance.feed);
    let waits = tokio::spawn(async move { feed.request_refetch(Some("k2")).await });
    instance.pass(1).await;
    instance.publish(22, &fetched("k2", now + 20));
    assert!(waits.await.unwrap().state.knows("k2"));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_has_gone_is_not_waited_for_unless_it_comes_back() {
    let instance = Instance::with(|stub, clock| publish(stub, clock, 5, &fetched("k1", 10))).await;
    instance.publish(6, &fetched("k2", 20));
    instance.pass(1).await;
    let (known, took) = asked(&instance, "k1").await;
    assert!(!known && took < AT_ONCE, "{took:?}");
    assert_eq!(instance.stub.wanted.load(Ordering::Relaxed), 0);
    for number in 0..100 {
        instance.publish(7 + number, &fetched(&format!("n{number}"), 30));
        instance.pass(1).await;
    }
    let remembered = instance.feed.gone.lock().unwrap().len();
    assert!(remembered <= 64, "{remembered}");
    instance.publish(200, &fetched("n50", 40));
    instance.pass(1).await;
    assert!(asked(&instance, "n50").await.0);
}

#[tokio::test(start_paused = true)]
async fn keys_that_were_fetched_here_later_than_by_the_tracker_stay() {
    let instance = Instance::with(|stub, clock| publish(stub, clock, 5, &fetched("new", 9))).await;
    instance.publish(6, &fetched("old", 8));
    instance.pass(1).await;
    assert!(instance.feed.current().state.knows("new"));
    instance.publish(7, &state(1, &[]));
    instance.pass(1).await;
    assert!(instance.feed.current().state.knows("new"), "a tracker without keys takes none away");
    instance.publish(8, &fetched("newest", 10));
    instance.pass(1).await;
    assert!(!instance.feed.current().state.knows("new"));
}
