//! The registry of processes: signs of life, what they say, and who is not heard any more.

use std::time::{Duration, Instant};

use dispatcher_api::instances::model::{Instance, KnownInstance, ProcessKind, Sign};
use uuid::Uuid;

use super::{Subject, fixtures::now};

const LONG: Duration = Duration::from_secs(600);
const PATIENCE: Duration = Duration::from_secs(10);

fn instance(kind: ProcessKind, name: &str) -> Instance {
    Instance {
        id: Uuid::new_v4(),
        kind,
        name: name.to_owned(),
        host: "host".to_owned(),
        version: "1.2.3".to_owned(),
        started_at: now(),
    }
}

async fn seen(subject: &Subject, age: Duration) -> Vec<KnownInstance> {
    subject.stores.instances.seen_within(age).await.unwrap()
}

/// The first sign registers, later ones replace what was said, and the end takes it away.
pub async fn what_was_said_last_counts(subject: &Subject) {
    let store = &subject.stores.instances;
    let (b, a) = (instance(ProcessKind::Api, "b"), instance(ProcessKind::Api, "a"));
    let tracker = instance(ProcessKind::AuthTracker, "a");
    for one in [&b, &tracker, &a] {
        store.beat(one, Sign::default()).await.unwrap();
    }
    let sign = Sign { auth_version: (7 << 32) + 1, draining: true };
    store.beat(&b, sign).await.unwrap();
    let known = store.live().await.unwrap();
    let all: Vec<_> = known.iter().map(|known| (&known.instance, known.sign)).collect();
    assert_eq!(all, [(&a, Sign::default()), (&b, sign), (&tracker, Sign::default())]);
    assert!(known.iter().all(KnownInstance::is_live));
    store.remove(b.id).await.unwrap();
    store.remove(b.id).await.unwrap();
    assert_eq!(seen(subject, LONG).await.len(), 2);
}

/// Whoever is silent drops out, and is back with the next sign.
pub async fn silence_is_noticed(subject: &Subject) {
    let short = Duration::from_millis(200);
    let one = instance(ProcessKind::Api, "one");
    subject.stores.instances.beat(&one, Sign::default()).await.unwrap();
    let since = Instant::now();
    while !seen(subject, short).await.is_empty() {
        assert!(since.elapsed() < PATIENCE, "it counts as seen for ever");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let [known] = seen(subject, LONG).await.try_into().unwrap();
    assert!(known.silent_for >= short && known.silent_for < LONG, "{known:?}");
    subject.stores.instances.beat(&one, Sign::default()).await.unwrap();
    assert_eq!(seen(subject, PATIENCE).await.len(), 1);
}
