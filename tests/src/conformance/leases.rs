//! Leases: one holder at a time, on the database's clock, with an epoch that tells holders apart.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::Subject;

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(600);
/// How long to wait for a short lease to end.
const PATIENCE: Duration = Duration::from_secs(60);

async fn hold(subject: &Subject, name: &str, holder: Uuid, ttl: Duration) -> Option<i64> {
    let lease = subject.stores.leases.hold(name, holder, "somebody", ttl).await.unwrap();
    lease.map(|lease| lease.epoch)
}

/// Whoever has it keeps it, renews it under the same epoch, and nobody else gets it.
pub async fn one_holder_at_a_time(subject: &Subject) {
    let (own, other) = (Uuid::new_v4(), Uuid::new_v4());
    assert_eq!(hold(subject, "a", own, LONG).await, Some(1));
    assert_eq!(hold(subject, "a", other, LONG).await, None);
    assert_eq!(hold(subject, "a", own, LONG).await, Some(1));
    assert_eq!(hold(subject, "b", other, LONG).await, Some(1), "another name");
}

/// Given back, it is free at once, also for whoever had it; only its holder gives it back.
pub async fn given_back_it_is_free(subject: &Subject) {
    let (own, other) = (Uuid::new_v4(), Uuid::new_v4());
    assert_eq!(hold(subject, "a", own, LONG).await, Some(1));
    subject.stores.leases.release("a", other).await.unwrap();
    subject.stores.leases.release("nothing", other).await.unwrap();
    assert_eq!(hold(subject, "a", other, LONG).await, None);
    subject.stores.leases.release("a", own).await.unwrap();
    assert_eq!(hold(subject, "a", own, LONG).await, Some(1), "the holder has not changed");
    subject.stores.leases.release("a", own).await.unwrap();
    assert_eq!(hold(subject, "a", other, LONG).await, Some(2));
    assert_eq!(hold(subject, "a", own, LONG).await, None);
}

/// Over, it goes to whoever asks, under a new epoch.
pub async fn over_it_goes_to_another(subject: &Subject) {
    let (own, other) = (Uuid::new_v4(), Uuid::new_v4());
    let short = Duration::from_millis(300);
    let since = Instant::now();
    assert_eq!(hold(subject, "a", own, short).await, Some(1));
    let taken = loop {
        if let Some(epoch) = hold(subject, "a", other, LONG).await {
            break epoch;
        }
        assert!(since.elapsed() < PATIENCE, "the lease does not end");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(since.elapsed() > Duration::from_millis(200), "it was taken too early");
    assert_eq!(taken, 2);
    assert_eq!(hold(subject, "a", own, LONG).await, None);
}

/// Of many that ask at once, one gets it.
pub async fn asked_for_at_once_one_gets_it(subject: &Subject) {
    let asking = (0..16).map(|_| {
        let leases = subject.stores.leases.clone();
        tokio::spawn(async move { leases.hold("a", Uuid::new_v4(), "one", LONG).await.unwrap() })
    });
    let mut holders = 0;
    for asked in asking.collect::<Vec<_>>() {
        holders += usize::from(asked.await.unwrap().is_some());
    }
    assert_eq!(holders, 1);
}
