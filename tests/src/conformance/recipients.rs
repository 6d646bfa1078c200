//! Recipients: registering, presence, lists.

use std::collections::BTreeMap;

use dispatcher_api::recipients::model::Recipient;
use dispatcher_wire::RunStatus;
use time::Duration;
use uuid::Uuid;

use super::{
    Subject,
    fixtures::{create, finished, now, org, run, started, stats},
};

fn recipient(org_id: &str, name: &str) -> Recipient {
    Recipient {
        id: Uuid::new_v4(),
        org_id: org_id.to_owned(),
        name: name.to_owned(),
        key_digest: Some(vec![0, 1, 255]),
        last_seen: None,
        created_at: now(),
    }
}

/// No labels to ask for.
const fn none() -> BTreeMap<String, String> {
    BTreeMap::new()
}

async fn found(subject: &Subject, id: Uuid) -> Option<Recipient> {
    let mut found = subject.stores.recipients.find(&[id]).await.unwrap();
    assert!(found.len() <= 1);
    found.remove(&id)
}

/// Registered again, it gets the new name and key and keeps the rest.
pub async fn registering_again_replaces_name_and_key(subject: &Subject) {
    let first = recipient(&org(), "first");
    assert!(subject.stores.recipients.register(&first).await.unwrap());
    assert_eq!(found(subject, first.id).await, Some(first.clone()));
    let seen = now();
    subject.stores.recipients.seen(&[first.id], seen).await.unwrap();
    let again = Recipient {
        name: "second".to_owned(),
        key_digest: None,
        created_at: now() + Duration::days(1),
        ..first.clone()
    };
    assert!(subject.stores.recipients.register(&again).await.unwrap());
    let expected =
        Recipient { last_seen: Some(seen), created_at: first.created_at, ..again.clone() };
    assert_eq!(found(subject, first.id).await, Some(expected));
}

/// It stays with the organisation that has it.
pub async fn other_organisations_cannot_take_it(subject: &Subject) {
    let own = recipient(&org(), "own");
    assert!(subject.stores.recipients.register(&own).await.unwrap());
    let taken = Recipient { org_id: org(), name: "taken".to_owned(), ..own.clone() };
    assert!(!subject.stores.recipients.register(&taken).await.unwrap());
    assert_eq!(found(subject, own.id).await, Some(own));
    assert_eq!(
        subject.stores.recipients.list(&taken.org_id, &none(), 10, 0).await.unwrap().total,
        0
    );
}

/// Presence only moves forward, and only of those who are registered.
pub async fn presence_never_moves_backwards(subject: &Subject) {
    let known = recipient(&org(), "known");
    subject.stores.recipients.register(&known).await.unwrap();
    let at = now();
    for (seen, expected) in [(0, 0), (-5, 0), (7, 7), (6, 7)] {
        let seen = at + Duration::microseconds(seen);
        subject.stores.recipients.seen(&[known.id], seen).await.unwrap();
        let last_seen = found(subject, known.id).await.unwrap().last_seen;
        assert_eq!(last_seen, Some(at + Duration::microseconds(expected)));
    }
    let unknown = Uuid::new_v4();
    subject.stores.recipients.seen(&[unknown], at).await.unwrap();
    assert_eq!(found(subject, unknown).await, None);
    assert_eq!(subject.stores.recipients.find(&[]).await.unwrap(), BTreeMap::new());
    let both = subject.stores.recipients.find(&[unknown, known.id, known.id]).await.unwrap();
    assert_eq!(both.into_keys().collect::<Vec<_>>(), [known.id]);
}

/// Many at once, each by itself: those who were seen later keep that.
pub async fn presence_of_many(subject: &Subject) {
    let org = org();
    let all = ["a", "b", "c"].map(|name| recipient(&org, name));
    for one in &all {
        subject.stores.recipients.register(one).await.unwrap();
    }
    let (at, later) = (now(), now() + Duration::seconds(1));
    subject.stores.recipients.seen(&[all[1].id], later).await.unwrap();
    let ids = [all[2].id, Uuid::new_v4(), all[1].id, all[2].id];
    subject.stores.recipients.seen(&ids, at).await.unwrap();
    subject.stores.recipients.seen(&[], later).await.unwrap();
    for (one, expected) in all.iter().zip([None, Some(later), Some(at)]) {
        assert_eq!(found(subject, one.id).await.unwrap().last_seen, expected, "{}", one.name);
    }
}

/// By name, byte by byte, then id; with the runs that are not final.
pub async fn listed_with_their_active_runs(subject: &Subject) {
    let (org, at) = (org(), now());
    let mut all = ["b", "B", "a", "b", "ä"].map(|name| recipient(&org, name));
    for recipient in &all {
        subject.stores.recipients.register(recipient).await.unwrap();
    }
    all.sort_by(|a, b| (a.name.as_str(), a.id).cmp(&(b.name.as_str(), b.id)));
    let mut runs: Vec<_> = (0..3).map(|_| run(&org)).collect();
    runs.iter_mut().for_each(|run| run.recipient = all[2].id);
    create(&subject.stores, &runs).await;
    let list = async |limit, offset| {
        let page = subject.stores.recipients.list(&org, &none(), limit, offset).await.unwrap();
        assert_eq!(page.total, 5);
        page.rows.into_iter().map(|row| (row.recipient, row.active_runs)).collect::<Vec<_>>()
    };
    let expected = |active: [i64; 5]| all.iter().cloned().zip(active).collect::<Vec<_>>();
    assert_eq!(list(10, 0).await, expected([0, 0, 3, 0, 0]));
    assert_eq!(list(2, 2).await, expected([0, 0, 3, 0, 0])[2..4]);
    runs.sort_by_key(|run| (run.created_at, run.id));
    let hold = started(&subject.stores, &runs[0], at).await;
    assert_eq!(list(10, 0).await, expected([0, 0, 3, 0, 0]));
    let ended = finished(&subject.stores, hold, 1, stats(&[]), at).await;
    assert_eq!(ended, RunStatus::Success);
    assert_eq!(list(10, 0).await, expected([0, 0, 2, 0, 0]));
    subject.stores.upkeep.expire(at + Duration::days(1), 10).await.unwrap();
    assert_eq!(list(10, 0).await, expected([0; 5]));
}
