//! Stored playbooks: names of an organisation that point at content.

use dispatcher_api::playbooks::model::StoredPlaybook;
use time::Duration;

use super::{
    Subject,
    fixtures::{now, org},
};

fn playbook(org_id: &str, name: &str, content: u8) -> StoredPlaybook {
    StoredPlaybook {
        org_id: org_id.to_owned(),
        name: name.to_owned(),
        sha256: [content; 32],
        size: i64::from(content),
        entry: None,
        created_at: now(),
        updated_at: now(),
    }
}

/// A name points at what was put last; the caller hears what it pointed at before.
pub async fn put_and_get(subject: &Subject) {
    let org = org();
    let store = &subject.stores.playbooks;
    let first = playbook(&org, "site", 1);
    assert_eq!(store.put(&first, None).await.unwrap(), None);
    assert_eq!(store.get(&org, "site").await.unwrap(), Some(first.clone()));
    assert_eq!(store.put(&first, None).await.unwrap(), None, "the same content is no other");
    let later = now() + Duration::hours(1);
    let second = StoredPlaybook {
        entry: Some("play.yml".to_owned()),
        created_at: later,
        updated_at: later,
        ..playbook(&org, "site", 2)
    };
    assert_eq!(store.put(&second, None).await.unwrap(), Some([1; 32]));
    let expected = StoredPlaybook { created_at: first.created_at, ..second };
    assert_eq!(store.get(&org, "site").await.unwrap(), Some(expected));
    assert_eq!(store.get(&org, "other").await.unwrap(), None);
    assert_eq!(store.get("other", "site").await.unwrap(), None);
}

/// By name, byte by byte; pages; of one organisation.
pub async fn listed_by_name(subject: &Subject) {
    let (org, other) = (org(), org());
    for name in ["b", "a", "B", "a-1", "a.1"] {
        subject.stores.playbooks.put(&playbook(&org, name, 1), None).await.unwrap();
    }
    subject.stores.playbooks.put(&playbook(&other, "c", 1), None).await.unwrap();
    let list = async |limit, offset| {
        let page = subject.stores.playbooks.list(&org, limit, offset).await.unwrap();
        assert_eq!(page.total, 5);
        page.rows.into_iter().map(|row| row.name).collect::<Vec<_>>()
    };
    assert_eq!(list(10, 0).await, ["B", "a", "a-1", "a.1", "b"]);
    assert_eq!(list(2, 3).await, ["a.1", "b"]);
    assert_eq!(list(2, 5).await, [""; 0]);
}

/// Content is found where a name of that organisation points at it, and only as long.
pub async fn content_is_found_by_organisation(subject: &Subject) {
    let (org, other) = (org(), org());
    let store = &subject.stores.playbooks;
    let entry = Some("site.yml".to_owned());
    store
        .put(&StoredPlaybook { entry: entry.clone(), ..playbook(&org, "a", 1) }, None)
        .await
        .unwrap();
    let found = store.find_content(&org, &[1; 32]).await.unwrap().unwrap();
    assert_eq!((found.entry, found.size), (entry, 1));
    assert_eq!(store.find_content(&other, &[1; 32]).await.unwrap(), None);
    store.put(&playbook(&org, "a", 2), None).await.unwrap();
    assert_eq!(store.find_content(&org, &[1; 32]).await.unwrap(), None);
    assert!(store.find_content(&org, &[2; 32]).await.unwrap().is_some());
}
