//! Keys of services: two live ones at most, versions, and what the auth state takes in.

use dispatcher_api::{
    audit::model::{Action, Actor, AuditEntry, AuditQuery},
    auth::principal::{OrgScope, Role},
    keys::model::{KeyMade, KeyQuery, NewServiceKey, Replaced, ServiceKey},
};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{Subject, fixtures::now};

fn id() -> String {
    Uuid::new_v4().simple().to_string().chars().take(8).collect()
}

fn key(service: &str, org_id: Option<&str>, at: OffsetDateTime) -> NewServiceKey {
    let key = ServiceKey {
        id: id(),
        service: service.to_owned(),
        org_id: org_id.map(str::to_owned),
        role: Role::Operator,
        created_at: at,
        created_by: "cli:root".to_owned(),
        expires_at: None,
        revoked_at: None,
        revoked_by: None,
    };
    NewServiceKey { key, digest: Uuid::new_v4().as_bytes().to_vec() }
}

fn row(target: &str) -> AuditEntry {
    Actor::on_host("root").did(Action::KeyCreate, target, None, now())
}

async fn make(subject: &Subject, new: &NewServiceKey) -> KeyMade {
    subject.stores.keys.make(new, None, Some(&row(&new.key.id))).await.unwrap()
}

async fn made(subject: &Subject, new: &NewServiceKey) -> u64 {
    match make(subject, new).await {
        KeyMade::Made { auth_version } => auth_version,
        other => panic!("not made: {other:?}"),
    }
}

async fn logged(subject: &Subject) -> i64 {
    let query = AuditQuery {
        scope: OrgScope::All,
        org_id: None,
        action: None,
        principal: None,
        since: None,
        limit: 1,
        offset: 0,
    };
    subject.stores.audit.list(&query).await.unwrap().total
}

async fn live_ids(subject: &Subject, at: OffsetDateTime) -> Vec<String> {
    let (_, keys) = subject.stores.keys.live(at).await.unwrap();
    keys.into_iter().map(|(key, _)| key.id).collect()
}

/// A key comes back as it was made, its digest with the live ones, and the version has grown.
pub async fn a_key_is_made_with_a_version(subject: &Subject) {
    let (store, at) = (&subject.stores.keys, now());
    let before = store.version().await.unwrap();
    assert_eq!(store.live(at).await.unwrap(), (before, Vec::new()));
    let mut new = key("tasks", Some("1"), at);
    new.key.role = Role::Admin;
    new.key.expires_at = Some(at + Duration::HOUR);
    let version = made(subject, &new).await;
    assert_eq!(version, before + 1);
    assert_eq!(store.version().await.unwrap(), version);
    assert_eq!(store.find(&new.key.id).await.unwrap(), Some(new.key.clone()));
    let held = vec![(new.key.clone(), new.digest.clone())];
    assert_eq!(store.live(at).await.unwrap(), (version, held));
    assert_eq!(live_ids(subject, at + Duration::HOUR).await, [""; 0]);
    assert_eq!(store.find("nobodys1").await.unwrap(), None);
    assert_eq!(store.find("a\0").await.unwrap(), None);
    assert_eq!(logged(subject).await, 1);
}

/// An id is used once: a repeated request makes nothing, neither a version nor a row of the log.
pub async fn an_id_is_taken_once(subject: &Subject) {
    let new = key("tasks", None, now());
    let version = made(subject, &new).await;
    let again = NewServiceKey { digest: vec![1], ..new.clone() };
    assert_eq!(make(subject, &again).await, KeyMade::IdTaken);
    assert_eq!(subject.stores.keys.version().await.unwrap(), version);
    assert_eq!(logged(subject).await, 1);
    let (_, keys) = subject.stores.keys.live(now()).await.unwrap();
    assert_eq!(keys, [(new.key, new.digest)]);
}

/// A third live key of one service in one organisation is refused, naming the two; revoked and
/// expired ones do not count, and others of that name elsewhere neither.
pub async fn two_are_live_at_most(subject: &Subject) {
    let at = now();
    let (one, two) = (key("tasks", None, at), key("tasks", None, at + Duration::SECOND));
    made(subject, &one).await;
    let version = made(subject, &two).await;
    let third = key("tasks", None, at + Duration::seconds(2));
    let both = vec![one.key.id.clone(), two.key.id.clone()];
    assert_eq!(make(subject, &third).await, KeyMade::TooMany(both));
    assert_eq!(subject.stores.keys.version().await.unwrap(), version);
    assert_eq!(logged(subject).await, 2);
    made(subject, &key("tasks", Some("1"), at)).await;
    made(subject, &key("other", None, at)).await;
    subject.stores.keys.revoke(&one.key.id, "cli:root", at, None).await.unwrap().unwrap();
    let mut third = third;
    third.key.expires_at = Some(at + Duration::HOUR);
    made(subject, &third).await;
    let fourth = key("tasks", None, at + Duration::minutes(59));
    assert!(matches!(make(subject, &fourth).await, KeyMade::TooMany(_)));
    made(subject, &key("tasks", None, at + Duration::HOUR)).await;
}

/// A successor ends the old key after the overlap, or when that ends by itself.
pub async fn a_successor_ends_the_old_key(subject: &Subject) {
    let (store, at) = (&subject.stores.keys, now());
    let ends_at = at + Duration::HOUR;
    for own_end in [None, Some(at + Duration::MINUTE), Some(at + Duration::DAY)] {
        let service = id();
        let mut old = key(&service, Some("1"), at);
        old.key.expires_at = own_end;
        made(subject, &old).await;
        let replaced = Replaced { id: old.key.id.clone(), ends_at };
        let new = key(&service, Some("1"), at);
        let outcome = store.make(&new, Some(&replaced), None).await.unwrap();
        assert!(matches!(outcome, KeyMade::Made { .. }), "{outcome:?}");
        let end = store.find(&old.key.id).await.unwrap().unwrap().expires_at;
        assert_eq!(end, Some(own_end.map_or(ends_at, |own| own.min(ends_at))));
        assert_eq!(store.find(&new.key.id).await.unwrap().unwrap().expires_at, None);
        let third = store.make(&key(&service, Some("1"), at), Some(&replaced), None).await.unwrap();
        assert_eq!(third, KeyMade::TooMany(sorted([&old.key.id, &new.key.id])));
    }
    let gone = Replaced { id: "nobodys1".to_owned(), ends_at };
    let outcome = store.make(&key("tasks", None, at), Some(&gone), None).await.unwrap();
    assert_eq!(outcome, KeyMade::NotLive);
}

fn sorted(ids: [&String; 2]) -> Vec<String> {
    let mut ids: Vec<String> = ids.into_iter().cloned().collect();
    ids.sort();
    ids
}

/// Revoked once: the second time nothing is written, and the answer is the same.
pub async fn revoked_once(subject: &Subject) {
    let (store, at) = (&subject.stores.keys, now());
    let new = key("tasks", None, at);
    let version = made(subject, &new).await;
    let row = row("revoked");
    let first = store.revoke(&new.key.id, "service:a", at, Some(&row)).await.unwrap().unwrap();
    assert_eq!(first.auth_version, version + 1);
    assert_eq!(
        (first.key.revoked_at, first.key.revoked_by.as_deref()),
        (Some(at), Some("service:a"))
    );
    assert_eq!(live_ids(subject, at).await, [""; 0]);
    let later = at + Duration::HOUR;
    let second = store.revoke(&new.key.id, "service:b", later, Some(&row)).await.unwrap().unwrap();
    assert_eq!(second, first);
    assert_eq!(logged(subject).await, 2);
    assert_eq!(store.revoke("nobodys1", "service:a", at, Some(&row)).await.unwrap(), None);
    assert_eq!(store.version().await.unwrap(), version + 1);
}

/// By service, organisation (every one's first) and time; by scope; pages have the total.
pub async fn listed_by_service(subject: &Subject) {
    let at = now();
    let all = [
        key("b", None, at),
        key("a", Some("2"), at),
        key("a", Some("1"), at + Duration::SECOND),
        key("a", Some("1"), at),
        key("a", None, at),
    ];
    for new in &all {
        made(subject, new).await;
    }
    subject.stores.keys.revoke(&all[0].key.id, "cli:root", at, None).await.unwrap();
    let everything =
        KeyQuery { scope: OrgScope::All, service: None, live_at: None, limit: 10, offset: 0 };
    let list = async |query: KeyQuery| {
        let page = subject.stores.keys.list(&query).await.unwrap();
        let place = |key: &ServiceKey| all.iter().position(|new| new.key.id == key.id).unwrap();
        (page.rows.iter().map(place).collect::<Vec<_>>(), page.total)
    };
    assert_eq!(list(everything.clone()).await, (vec![4, 3, 2, 1, 0], 5));
    let page = KeyQuery { limit: 2, offset: 1, ..everything.clone() };
    assert_eq!(list(page).await, (vec![3, 2], 5));
    let live = KeyQuery { live_at: Some(at), ..everything.clone() };
    assert_eq!(list(live).await, (vec![4, 3, 2, 1], 4));
    let of_one = KeyQuery { scope: OrgScope::One("1".to_owned()), ..everything.clone() };
    assert_eq!(list(of_one).await, (vec![3, 2], 2));
    let of_b = KeyQuery { service: Some("b".to_owned()), ..everything.clone() };
    assert_eq!(list(of_b).await, (vec![0], 1));
    let odd = KeyQuery { service: Some("b\0".to_owned()), ..everything };
    assert_eq!(list(odd).await, (vec![], 0));
}

/// However many ask at once, two keys are made, each with a version of its own.
pub async fn many_at_once_make_two(subject: &Subject) {
    let at = now();
    let before = subject.stores.keys.version().await.unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (store, new) = (subject.stores.keys.clone(), key("tasks", None, at));
            tokio::spawn(async move { store.make(&new, None, None).await.unwrap() })
        })
        .collect();
    let mut versions = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            KeyMade::Made { auth_version } => versions.push(auth_version),
            KeyMade::TooMany(two) => assert_eq!(two.len(), 2),
            other => panic!("{other:?}"),
        }
    }
    versions.sort_unstable();
    assert_eq!(versions, [before + 1, before + 2]);
    assert_eq!(live_ids(subject, at).await.len(), 2);
}
