//! Requests that are repeated: created once, answered alike.

use dispatcher_api::runs::model::{CreateOutcome, IdempotencyKey, NewRun, StoredAnswer};
use time::Duration;

use super::{
    Subject,
    fixtures::{all_runs, listed, now, org, run},
};

fn key(org: &str) -> IdempotencyKey {
    IdempotencyKey {
        principal: "service remediations".to_owned(),
        org_id: org.to_owned(),
        key: "once".to_owned(),
        body_hash: [7; 32],
        expires_at: now() + Duration::hours(1),
        answer: None,
    }
}

fn answer(body: &[u8]) -> StoredAnswer {
    StoredAnswer { status: 207, body: body.to_vec() }
}

async fn outcome(subject: &Subject, org: &str, key: &IdempotencyKey) -> CreateOutcome {
    subject.stores.runs.create(&[run(org)], Some(key), &[]).await.unwrap()
}

/// In flight until it is answered, then the same bytes for ever; nothing is created again.
pub async fn in_flight_then_replayed(subject: &Subject) {
    let org = org();
    let key = key(&org);
    assert_eq!(outcome(subject, &org, &key).await, CreateOutcome::Created);
    assert_eq!(outcome(subject, &org, &key).await, CreateOutcome::InFlight);
    let bytes = answer(b"[\0\xFF]\n");
    subject.stores.runs.finish_idempotent(&key, &bytes).await.unwrap();
    for _ in 0..2 {
        assert_eq!(outcome(subject, &org, &key).await, CreateOutcome::Replay(bytes.clone()));
    }
    assert_eq!(listed(&subject.stores, &all_runs(&org)).await.len(), 1);
}

/// An answer known beforehand is there from the commit on, also an empty one.
pub async fn answered_at_once(subject: &Subject) {
    let org = org();
    for (name, body) in [("a", &b"[]"[..]), ("b", b"")] {
        let answer = answer(body);
        let key =
            IdempotencyKey { key: name.to_owned(), answer: Some(answer.clone()), ..key(&org) };
        assert_eq!(outcome(subject, &org, &key).await, CreateOutcome::Created);
        assert_eq!(outcome(subject, &org, &key).await, CreateOutcome::Replay(answer));
    }
}

/// A key belongs to one body, one principal and one organisation.
pub async fn other_bodies_and_other_owners(subject: &Subject) {
    let org = org();
    let first = key(&org);
    assert_eq!(outcome(subject, &org, &first).await, CreateOutcome::Created);
    let other_body = IdempotencyKey { body_hash: [8; 32], ..first.clone() };
    assert_eq!(outcome(subject, &org, &other_body).await, CreateOutcome::OtherBody);
    subject.stores.runs.finish_idempotent(&first, &answer(b"[]")).await.unwrap();
    assert_eq!(outcome(subject, &org, &other_body).await, CreateOutcome::OtherBody);
    for other in [
        IdempotencyKey { principal: "service tasks".to_owned(), ..other_body.clone() },
        IdempotencyKey { org_id: "*".to_owned() + &org[1..], ..other_body.clone() },
        IdempotencyKey { key: "twice".to_owned(), ..other_body.clone() },
    ] {
        assert_eq!(outcome(subject, &org, &other).await, CreateOutcome::Created);
    }
    assert_eq!(listed(&subject.stores, &all_runs(&org)).await.len(), 4);
}

/// A key that has expired counts as absent, whatever it was used for.
pub async fn expired_keys_are_free(subject: &Subject) {
    let org = org();
    let expired = IdempotencyKey { expires_at: now() - Duration::seconds(1), ..key(&org) };
    assert_eq!(outcome(subject, &org, &expired).await, CreateOutcome::Created);
    let again = IdempotencyKey { body_hash: [9; 32], ..key(&org) };
    assert_eq!(outcome(subject, &org, &again).await, CreateOutcome::Created);
    assert_eq!(outcome(subject, &org, &again).await, CreateOutcome::InFlight);
    assert_eq!(listed(&subject.stores, &all_runs(&org)).await.len(), 2);
}

/// Finishing sets the expiry anew; a key that nobody finished is free when it expires.
pub async fn finishing_sets_the_expiry(subject: &Subject) {
    let org = org();
    let short = key(&org);
    assert_eq!(outcome(subject, &org, &short).await, CreateOutcome::Created);
    let over = IdempotencyKey { expires_at: now() - Duration::seconds(1), ..short.clone() };
    subject.stores.runs.finish_idempotent(&over, &answer(b"[]")).await.unwrap();
    assert_eq!(outcome(subject, &org, &short).await, CreateOutcome::Created);
}

/// A batch that fails takes no key.
pub async fn failures_take_no_key(subject: &Subject) {
    let (org, key) = (org(), key(&org()));
    let twice = run(&org);
    subject.stores.runs.create(&[twice.clone(), twice], Some(&key), &[]).await.unwrap_err();
    assert_eq!(outcome(subject, &org, &key).await, CreateOutcome::Created);
    assert_eq!(listed(&subject.stores, &all_runs(&org)).await.len(), 1);
}

/// The very same request again under its key is a repetition; the same runs under another key are
/// there already, and that key stays free.
pub async fn the_same_runs_again(subject: &Subject) {
    let (org, run) = (org(), [run(&org())]);
    let (first, other) = (key(&org), IdempotencyKey { key: "other".to_owned(), ..key(&org) });
    let create = async |key| subject.stores.runs.create(&run, Some(key), &[]).await.unwrap();
    assert_eq!(create(&first).await, CreateOutcome::Created);
    assert_eq!(create(&first).await, CreateOutcome::InFlight);
    assert_eq!(create(&other).await, CreateOutcome::Created);
    assert_eq!(create(&other).await, CreateOutcome::Created);
    assert_eq!(subject.told(run[0].id).await, ["run create running"]);
}

/// Keys expire by the clock that the runs have.
pub async fn expiry_by_the_time_of_the_runs(subject: &Subject) {
    let (org, first) = (org(), key(&org()));
    let at = |after: Duration| NewRun { created_at: first.expires_at + after, ..run(&org) };
    let create = async |run| subject.stores.runs.create(&[run], Some(&first), &[]).await.unwrap();
    let moment = Duration::microseconds(1);
    assert_eq!(create(at(-moment)).await, CreateOutcome::Created);
    assert_eq!(create(at(-moment)).await, CreateOutcome::InFlight);
    assert_eq!(create(at(Duration::ZERO)).await, CreateOutcome::Created);
}

/// Many at once with one key: created exactly once.
pub async fn used_by_many_at_once(subject: &Subject) {
    let org = org();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (runs, run, key) = (subject.stores.runs.clone(), run(&org), key(&org));
            tokio::spawn(async move { runs.create(&[run], Some(&key), &[]).await.unwrap() })
        })
        .collect();
    let mut created = 0;
    for task in tasks {
        match task.await.unwrap() {
            CreateOutcome::Created => created += 1,
            other => assert_eq!(other, CreateOutcome::InFlight),
        }
    }
    assert_eq!(created, 1);
    assert_eq!(listed(&subject.stores, &all_runs(&org)).await.len(), 1);
}
