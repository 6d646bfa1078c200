//! The audit log: rows in the transaction of the change, and pages of them.

use dispatcher_api::{
    audit::model::{Action, Actor, AuditEntry, AuditQuery, AuditRow},
    auth::principal::OrgScope,
    playbooks::model::StoredPlaybook,
    runs::model::{CancelRequest, CreateOutcome, IdempotencyKey, StoredAnswer},
};
use serde_json::json;
use time::Duration;

use super::{
    Subject,
    fixtures::{now, org, run},
};

fn somebody() -> Actor {
    let (id, request_id) = ("tasks".to_owned(), Some("host/1".to_owned()));
    Actor { kind: "service", id, role: "operator", request_id }
}

fn everything() -> AuditQuery {
    AuditQuery {
        scope: OrgScope::All,
        org_id: None,
        action: None,
        principal: None,
        since: None,
        limit: 200,
        offset: 0,
    }
}

async fn log(subject: &Subject, query: &AuditQuery) -> Vec<AuditRow> {
    let page = subject.stores.audit.list(query).await.unwrap();
    assert!(page.total >= page.rows.len() as i64);
    page.rows
}

async fn entries(subject: &Subject) -> Vec<AuditEntry> {
    log(subject, &everything()).await.into_iter().map(|row| row.entry).collect()
}

/// What is written is read back, whole, newest first; text that one database cannot hold is
/// replaced.
pub async fn rows_come_back_newest_first(subject: &Subject) {
    let (store, at) = (&subject.stores.audit, now());
    store.note(&[]).await.unwrap();
    let full = somebody()
        .did(Action::KeyCreate, "k1", Some("o1"), at)
        .with(json!({ "role": "admin", "n": [1, null] }));
    let bare = AuditEntry { request_id: None, ..somebody().did(Action::KeyRevoke, "k2", None, at) };
    store.note(&[full.clone(), bare.clone()]).await.unwrap();
    let odd = somebody().did(Action::KeyRevoke, "a\0b", None, at - Duration::HOUR);
    store.note(std::slice::from_ref(&odd)).await.unwrap();
    let odd = AuditEntry { target: "a\u{FFFD}b".to_owned(), ..odd };
    assert_eq!(entries(subject).await, [odd, bare, full]);
    let rows = log(subject, &everything()).await;
    assert!(rows[0].id > rows[1].id && rows[1].id > rows[2].id);
}

/// Organisation, action, principal and time narrow the list down; pages have the total.
pub async fn rows_are_narrowed_down(subject: &Subject) {
    let (store, at) = (&subject.stores.audit, now());
    let row = |action, target: &str, org: Option<&str>, minutes| {
        somebody().did(action, target, org, at + Duration::minutes(minutes))
    };
    let other = AuditEntry {
        principal_id: "other".to_owned(),
        ..row(Action::KeyRevoke, "3", Some("o2"), 3)
    };
    let rows = [
        row(Action::KeyCreate, "0", None, 0),
        row(Action::KeyCreate, "1", Some("o1"), 1),
        row(Action::RunCancel, "2", Some("o1"), 2),
        other,
    ];
    store.note(&rows).await.unwrap();
    let targets = async |query: AuditQuery| -> String {
        let rows = log(subject, &query).await;
        rows.into_iter().map(|row| row.entry.target).collect()
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(targets(everything()).await, "3210");
    assert_eq!(targets(AuditQuery { action: text("key.create"), ..everything() }).await, "10");
    assert_eq!(targets(AuditQuery { action: text("key."), ..everything() }).await, "310");
    assert_eq!(targets(AuditQuery { action: text("key"), ..everything() }).await, "");
    assert_eq!(targets(AuditQuery { action: text("%."), ..everything() }).await, "");
    assert_eq!(targets(AuditQuery { principal: text("other"), ..everything() }).await, "3");
    assert_eq!(targets(AuditQuery { principal: text("o\0"), ..everything() }).await, "");
    let since = Some(at + Duration::minutes(2));
    assert_eq!(targets(AuditQuery { since, ..everything() }).await, "32");
    assert_eq!(targets(AuditQuery { org_id: text("o1"), ..everything() }).await, "21");
    let own = AuditQuery { scope: OrgScope::One("o2".to_owned()), ..everything() };
    assert_eq!(targets(own.clone()).await, "3");
    assert_eq!(targets(AuditQuery { org_id: text("o1"), ..own }).await, "");
    let page = AuditQuery { limit: 2, offset: 1, ..everything() };
    assert_eq!(subject.stores.audit.list(&page).await.unwrap().total, 4);
    assert_eq!(targets(page).await, "21");
}

/// A dispatch writes its row once: not where its key was used, nor where it was there already.
pub async fn a_dispatch_is_logged_once(subject: &Subject) {
    let org = org();
    let run = run(&org);
    let row = somebody().did_to_runs(Action::RunDispatch, [(org.as_str(), run.id)], run.created_at);
    let key = IdempotencyKey {
        principal: "service:tasks".to_owned(),
        org_id: "*".to_owned(),
        key: "k".to_owned(),
        body_hash: [1; 32],
        expires_at: run.created_at + Duration::HOUR,
        answer: Some(StoredAnswer { status: 207, body: b"[]".to_vec() }),
    };
    let create = async |key| {
        subject.stores.runs.create(std::slice::from_ref(&run), key, &row).await.unwrap()
    };
    assert_eq!(create(Some(&key)).await, CreateOutcome::Created);
    assert!(matches!(create(Some(&key)).await, CreateOutcome::Replay(_)));
    assert_eq!(create(None).await, CreateOutcome::Created, "the same batch");
    assert_eq!(entries(subject).await, row);
    assert_eq!(row[0].target, run.id.to_string());
}

/// Who canceled a run first is in the log, and nobody else; what was refused is not.
pub async fn a_cancellation_is_logged_once(subject: &Subject) {
    let (org, at) = (org(), now());
    let (one, other) = (run(&org), run(&org));
    super::fixtures::create(&subject.stores, &[one.clone(), other.clone()]).await;
    let asked = |run_id, org_id: &str| CancelRequest {
        run_id,
        org_id: org_id.to_owned(),
        principal: "p".to_owned(),
    };
    let requests = [asked(one.id, &org), asked(other.id, "stranger"), asked(one.id, &org)];
    for by in [somebody(), Actor::on_host("root")] {
        subject.stores.runs.cancel(&requests, at, Some(&by)).await.unwrap();
    }
    let rows = entries(subject).await;
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!((&*row.target, row.org_id.as_deref()), (&*one.id.to_string(), Some(&*org)));
    assert_eq!((&*row.action, &*row.principal_id), ("run.cancel", "tasks"));
}

/// A playbook's name that points at what it pointed at before is no change.
pub async fn a_playbook_is_logged_where_it_changed(subject: &Subject) {
    let (store, org) = (&subject.stores.playbooks, org());
    let playbook = |content: u8| StoredPlaybook {
        org_id: org.clone(),
        name: "site".to_owned(),
        sha256: [content; 32],
        size: 1,
        entry: None,
        created_at: now(),
        updated_at: now(),
    };
    for content in [1, 1, 2] {
        let row = somebody()
            .did(Action::PlaybookPut, "site", Some(&org), now())
            .with(json!({ "content": content }));
        store.put(&playbook(content), Some(&row)).await.unwrap();
    }
    let contents: Vec<_> = entries(subject)
        .await
        .into_iter()
        .map(|row| row.detail.unwrap()["content"].clone())
        .collect();
    assert_eq!(contents, [2, 1]);
}
