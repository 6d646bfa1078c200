//! Times of last authentication: many at once, never backwards.

use auth_tracker::ports::LastAuth;
use time::{Duration, OffsetDateTime};

use super::{Subject, fixtures::now};

fn time(kind: &str, id: &str, at: OffsetDateTime) -> LastAuth {
    LastAuth { kind: kind.to_owned(), id: id.to_owned(), at }
}

async fn note(subject: &Subject, times: &[LastAuth]) {
    subject.stores.last_auth.note(times).await.unwrap();
}

async fn of(subject: &Subject, kind: &str, id: &str) -> Option<OffsetDateTime> {
    let ids = [id.to_owned(), "nobody".to_owned(), "a\0b".to_owned()];
    let mut found = subject.stores.last_auth.last_auth(kind, &ids).await.unwrap();
    assert!(found.keys().all(|known| known == id), "{found:?}");
    found.remove(id)
}

/// The newest time counts, in whatever order they come; kinds are apart.
pub async fn never_backwards(subject: &Subject) {
    let at = now();
    let second = Duration::SECOND;
    note(subject, &[]).await;
    assert_eq!(of(subject, "user", "a").await, None);
    note(subject, &[time("user", "a", at), time("service", "a", at - second)]).await;
    note(subject, &[time("user", "a", at - second)]).await;
    assert_eq!(of(subject, "user", "a").await, Some(at));
    assert_eq!(of(subject, "service", "a").await, Some(at - second));
    note(subject, &[time("user", "a", at + second)]).await;
    assert_eq!(of(subject, "user", "a").await, Some(at + second));
}

/// One principal several times in one call is one principal, and an impossible id keeps nobody out.
pub async fn one_call_may_repeat_itself(subject: &Subject) {
    let at = now();
    let hour = Duration::HOUR;
    let times = [time("user", "a", at), time("user", "a", at + hour), time("user", "a", at - hour)];
    note(subject, &times).await;
    assert_eq!(of(subject, "user", "a").await, Some(at + hour));
    let many: Vec<_> = (0..1_000).map(|number| time("user", &number.to_string(), at)).collect();
    note(subject, &many).await;
    assert_eq!(of(subject, "user", "999").await, Some(at));
    note(subject, &[time("user", "x\0y", at), time("user", "b", at)]).await;
    assert_eq!(of(subject, "user", "b").await, Some(at));
}

/// Writers at once do not block each other for good, and leave the newest.
pub async fn writers_at_once_agree(subject: &Subject) {
    let at = now();
    let writing = (0..8).map(|writer| {
        let store = subject.stores.last_auth.clone();
        let at = at + Duration::seconds(writer);
        let mut times: Vec<_> = (0..50).map(|id| time("user", &id.to_string(), at)).collect();
        if writer % 2 == 1 {
            times.reverse();
        }
        tokio::spawn(async move { store.note(&times).await.unwrap() })
    });
    for written in writing.collect::<Vec<_>>() {
        written.await.unwrap();
    }
    assert_eq!(of(subject, "user", "7").await, Some(at + Duration::seconds(7)));
}
