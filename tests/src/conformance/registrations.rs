//! Registrations: tokens, the workers that use them, labels, facts, removal.

use dispatcher_api::{
    audit::model::{Action, Actor, AuditEntry, AuditQuery},
    auth::principal::OrgScope,
    recipients::{
        model::{NewToken, RegisterOutcome, Registration, TokenOutcome},
        token::MAX_LIVE,
    },
};
use serde_json::json;
use time::Duration;
use uuid::Uuid;

use super::{
    Subject,
    fixtures::{now, org},
};

fn token(org_id: &str) -> NewToken {
    let at = now();
    NewToken {
        digest: Uuid::new_v4().as_bytes().to_vec(),
        org_id: org_id.to_owned(),
        recipient: None,
        may_replace: false,
        name: None,
        labels: [("env".to_owned(), "prod".to_owned())].into(),
        created_by: "somebody".to_owned(),
        created_at: at,
        expires_at: at + Duration::HOUR,
    }
}

fn wanted(token: &NewToken, recipient: Uuid, key: u8) -> Registration {
    Registration {
        token_digests: vec![vec![0], token.digest.clone()],
        recipient,
        name: "host".to_owned(),
        key_digests: vec![vec![key], vec![key, key]],
        facts: json!({ "os": "x", "worker_version": "1" }).as_object().unwrap().clone(),
        at: token.created_at + Duration::MINUTE,
    }
}

fn entry(action: Action, recipient: Uuid, org_id: Option<&str>) -> AuditEntry {
    Actor::worker(recipient, String::new()).did(action, recipient.to_string(), org_id, now())
}

async fn make(subject: &Subject, token: &NewToken) -> TokenOutcome {
    subject.stores.registrations.make_token(token, None).await.unwrap()
}

async fn register(subject: &Subject, wanted: &Registration) -> RegisterOutcome {
    let audit = entry(Action::RecipientRegister, wanted.recipient, None);
    subject.stores.registrations.register_worker(wanted, Some(&audit)).await.unwrap()
}

/// What the log says of registrations in an organisation.
async fn logged(subject: &Subject, org_id: &str) -> i64 {
    let query = AuditQuery {
        scope: OrgScope::One(org_id.to_owned()),
        org_id: None,
        action: Some("recipient.register".to_owned()),
        principal: None,
        since: None,
        limit: 10,
        offset: 0,
    };
    subject.stores.audit.list(&query).await.unwrap().total
}

/// Once, with the same answer to the same request, also of many at once.
pub async fn a_token_registers_once(subject: &Subject) {
    let (org, id) = (org(), Uuid::new_v4());
    let token = token(&org);
    let wanted = wanted(&token, id, 7);
    assert_eq!(register(subject, &wanted).await, RegisterOutcome::UnknownToken);
    assert_eq!(make(subject, &token).await, TokenOutcome::Made);
    let late = Registration { at: token.expires_at, ..wanted.clone() };
    assert_eq!(register(subject, &late).await, RegisterOutcome::Expired(token.expires_at));
    let tasks: Vec<_> = (0..8)
        .map(|index| {
            let store = subject.stores.registrations.clone();
            let mut wanted = wanted.clone();
            // Half of them are one worker, the others are all different.
            if index % 2 == 1 {
                (wanted.recipient, wanted.key_digests) = (Uuid::new_v4(), vec![vec![index]]);
            }
            tokio::spawn(async move { store.register_worker(&wanted, None).await.unwrap() })
        })
        .collect();
    let mut registered = 0;
    for task in tasks {
        match task.await.unwrap() {
            RegisterOutcome::Registered { .. } => registered += 1,
            outcome => assert_eq!(outcome, RegisterOutcome::Used),
        }
    }
    assert!(registered == 4 || registered == 1, "{registered}");
    assert_eq!(subject.stores.recipients.list(&org, &[].into(), 10, 0).await.unwrap().total, 1);
}

/// An unbound token registers nobody who is there; an admin's does, in its organisation.
pub async fn what_is_registered_is_replaced_by_admins_only(subject: &Subject) {
    let (org, id) = (org(), Uuid::new_v4());
    let first = token(&org);
    make(subject, &first).await;
    let registered = RegisterOutcome::Registered { org_id: org.clone(), name: "host".to_owned() };
    assert_eq!(register(subject, &wanted(&first, id, 1)).await, registered);
    assert_eq!(register(subject, &wanted(&first, id, 1)).await, registered);
    assert_eq!(logged(subject, &org).await, 1, "once, for the organisation of the token");
    let second = token(&org);
    make(subject, &second).await;
    assert_eq!(register(subject, &wanted(&second, id, 2)).await, RegisterOutcome::Taken);
    let bound = NewToken { recipient: Some(id), ..token(&org) };
    assert_eq!(make(subject, &bound).await, TokenOutcome::Registered);
    let foreign = NewToken { recipient: Some(id), may_replace: true, ..token("other") };
    assert_eq!(make(subject, &foreign).await, TokenOutcome::OtherOrg);
    let name = Some("again".to_owned());
    let admins = NewToken { may_replace: true, name, labels: [].into(), ..bound };
    assert_eq!(make(subject, &admins).await, TokenOutcome::Made);
    let other = Uuid::new_v4();
    let refused = register(subject, &wanted(&admins, other, 3)).await;
    assert_eq!(refused, RegisterOutcome::OtherRecipient(id));
    let again = RegisterOutcome::Registered { org_id: org.clone(), name: "again".to_owned() };
    assert_eq!(register(subject, &wanted(&admins, id, 3)).await, again);
    assert_eq!(register(subject, &wanted(&first, id, 1)).await, RegisterOutcome::Used);
    let known = subject.stores.registrations.get(&org, id).await.unwrap().unwrap();
    assert_eq!(known.summary.recipient.key_digest, Some(vec![3]));
    assert_eq!(known.summary.labels, first.labels, "a token without labels leaves them");
}

/// Labels are replaced, facts only by later ones; what is removed is gone, and its id is not free.
pub async fn labels_facts_and_removal(subject: &Subject) {
    let (org, id) = (org(), Uuid::new_v4());
    let store = &subject.stores.registrations;
    let token = token(&org);
    make(subject, &token).await;
    let wanted = wanted(&token, id, 1);
    register(subject, &wanted).await;
    let known = store.get(&org, id).await.unwrap().unwrap();
    assert_eq!((known.facts.as_ref(), known.facts_at), (Some(&wanted.facts), Some(wanted.at)));
    assert_eq!(known.summary.version.as_deref(), Some("1"));
    let labels = [("a\"'".to_owned(), "ü".to_owned()), ("b".to_owned(), String::new())].into();
    assert!(store.set_labels(&org, id, &labels, None).await.unwrap());
    assert!(!store.set_labels("other", id, &labels, None).await.unwrap());
    let later = json!({ "paused": "no room" }).as_object().unwrap().clone();
    store.set_facts(id, &later, wanted.at + Duration::SECOND).await.unwrap();
    store.set_facts(id, &wanted.facts, wanted.at).await.unwrap();
    let known = store.get(&org, id).await.unwrap().unwrap();
    assert_eq!(known.summary.labels, labels);
    assert_eq!((known.facts, known.summary.paused.as_deref()), (Some(later), Some("no room")));
    for (wanted, total) in [(labels.clone(), 1), ([("b".to_owned(), "x".to_owned())].into(), 0)] {
        let found = subject.stores.recipients.list(&org, &wanted, 10, 0).await.unwrap();
        assert_eq!((found.total, found.rows.len() as i64), (total, total));
    }
    assert!(!store.remove("other", id, now(), None).await.unwrap());
    let audit = entry(Action::RecipientRemove, id, Some(&org));
    assert!(store.remove(&org, id, now(), Some(&audit)).await.unwrap());
    assert!(!store.remove(&org, id, now(), Some(&audit)).await.unwrap());
    assert!(store.get(&org, id).await.unwrap().is_none());
    assert!(subject.stores.recipients.find(&[id]).await.unwrap().is_empty());
    assert_eq!(register(subject, &wanted).await, RegisterOutcome::Used, "its key is gone");
    let bound = NewToken { recipient: Some(id), may_replace: true, ..self::token("other") };
    assert_eq!(make(subject, &bound).await, TokenOutcome::OtherOrg);
}

/// So many live ones for an organisation; old ones are forgotten.
pub async fn tokens_have_a_limit(subject: &Subject) {
    let org = org();
    for _ in 0..MAX_LIVE {
        assert_eq!(make(subject, &token(&org)).await, TokenOutcome::Made);
    }
    assert_eq!(make(subject, &token(&org)).await, TokenOutcome::TooMany);
    let later = now() + Duration::HOUR * 2;
    let next = NewToken { created_at: later, expires_at: later + Duration::HOUR, ..token(&org) };
    assert_eq!(make(subject, &next).await, TokenOutcome::Made);
}
