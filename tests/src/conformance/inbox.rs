//! The inbox of uploads: received once, claimed by one, given up at last, kept with the reason.

use std::time::Duration as Lease;

use dispatcher_api::uploads::model::{
    ApplyOutcome, ClaimedUpload, MAX_APPLY_ATTEMPTS, Upload, UploadState,
};
use dispatcher_wire::RunStatus;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{
    Subject,
    fixtures::{claimed_upload, now, org, run, update, upload},
};

const LEASE: Lease = Lease::from_secs(60);

async fn claim(subject: &Subject, at: OffsetDateTime) -> Option<ClaimedUpload> {
    subject.stores.uploads.claim(Uuid::new_v4(), at, LEASE).await.unwrap()
}

async fn only(subject: &Subject, org: &str) -> Upload {
    let page = subject.stores.uploads.list(org, 10, 0).await.unwrap();
    assert_eq!((page.rows.len(), page.total), (1, 1));
    page.rows.into_iter().next().unwrap()
}

/// The same upload received again changes nothing.
pub async fn received_once(subject: &Subject) {
    let (org, at) = (org(), now());
    let first = Upload { run_id: Some(Uuid::new_v4()), ..upload(&org, at) };
    subject.stores.uploads.accept(&first).await.unwrap();
    subject.stores.uploads.accept(&Upload { size: 99, ..first.clone() }).await.unwrap();
    assert_eq!(only(subject, &org).await, first);
    let claimed = claim(subject, at).await.unwrap();
    assert_eq!(claimed.upload, Upload { attempt: 1, ..first.clone() });
    assert!(subject.stores.uploads.reject(&claimed, "no").await.unwrap());
    subject.stores.uploads.accept(&first).await.unwrap();
    assert_eq!(only(subject, &org).await.state, UploadState::Invalid);
    assert!(claim(subject, at).await.is_none());
}

/// The oldest first, each to one; a lease that is over frees it, and the first holder is out.
pub async fn claimed_oldest_first_with_a_lease(subject: &Subject) {
    let (org, at) = (org(), now());
    let uploads = [2, 3, 1].map(|age| upload(&org, at - Duration::seconds(age)));
    for upload in &uploads {
        subject.stores.uploads.accept(upload).await.unwrap();
    }
    let first = claim(subject, at).await.unwrap();
    assert_eq!(first.upload.id, uploads[1].id);
    assert_eq!(claim(subject, at).await.unwrap().upload.id, uploads[0].id);
    assert_eq!(claim(subject, at).await.unwrap().upload.id, uploads[2].id);
    assert!(claim(subject, at + LEASE - Duration::microseconds(1)).await.is_none());
    let again = claim(subject, at + LEASE).await.unwrap();
    assert_eq!((again.upload.id, again.upload.attempt), (uploads[1].id, 2));
    assert!(!subject.stores.uploads.reject(&first, "too late").await.unwrap());
    let update = update(&run(&org), RunStatus::Success, &["a"], "");
    let late = subject.stores.uploads.apply(&first, &update.clone().into(), at).await.unwrap();
    assert_eq!(late, ApplyOutcome::NotYours);
    let applied = subject.stores.uploads.apply(&again, &update.clone().into(), at).await.unwrap();
    assert_eq!(applied, ApplyOutcome::NoRun);
}

/// Many at once: each upload to one.
pub async fn claimed_by_one(subject: &Subject) {
    let (org, at) = (org(), now());
    for _ in 0..4 {
        subject.stores.uploads.accept(&upload(&org, at)).await.unwrap();
    }
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let uploads = subject.stores.uploads.clone();
            tokio::spawn(async move { uploads.claim(Uuid::new_v4(), at, LEASE).await.unwrap() })
        })
        .collect();
    let mut ids = Vec::new();
    for task in tasks {
        ids.extend(task.await.unwrap().map(|claimed| claimed.upload.id));
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4);
}

/// Claimed too often, it is set aside with a reason, and the next has its turn.
pub async fn given_up_at_last(subject: &Subject) {
    let (org, at) = (org(), now());
    let poison = upload(&org, at);
    subject.stores.uploads.accept(&poison).await.unwrap();
    for attempt in 1..=MAX_APPLY_ATTEMPTS {
        let claimed = claim(subject, at + LEASE * attempt.cast_unsigned()).await.unwrap();
        assert_eq!((claimed.upload.id, claimed.upload.attempt), (poison.id, attempt));
    }
    let end = at + LEASE * 9;
    let next = upload(&org, end);
    subject.stores.uploads.accept(&next).await.unwrap();
    assert_eq!(claim(subject, end).await.unwrap().upload.id, next.id);
    let rows = subject.stores.uploads.list(&org, 10, 0).await.unwrap().rows;
    assert_eq!(rows[1].state, UploadState::Poisoned);
    assert!(rows[1].reason.is_some(), "it says why");
    assert!(claim(subject, end + LEASE - Duration::seconds(1)).await.is_none());
}

/// Given back, it rests until then, and its attempts are as if it had not been claimed: however often
/// that happens, it is not given up.
pub async fn put_back_it_does_not_count(subject: &Subject) {
    let (org, mut at) = (org(), now());
    let own = upload(&org, at);
    subject.stores.uploads.accept(&own).await.unwrap();
    for _ in 0..=MAX_APPLY_ATTEMPTS {
        let claimed = claim(subject, at).await.unwrap();
        assert_eq!((claimed.upload.id, claimed.upload.attempt), (own.id, 1));
        let foreign = ClaimedUpload { claim: Uuid::nil(), ..claimed.clone() };
        assert!(!subject.stores.uploads.put_back(&foreign, at).await.unwrap());
        let from = at + Duration::seconds(5);
        assert!(subject.stores.uploads.put_back(&claimed, from).await.unwrap());
        assert!(!subject.stores.uploads.put_back(&claimed, from).await.unwrap(), "once");
        assert!(claim(subject, from - Duration::seconds(1)).await.is_none(), "it rests");
        at = from;
    }
    let claimed = claim(subject, at).await.unwrap();
    assert!(subject.stores.uploads.reject(&claimed, "no").await.unwrap());
    assert!(!subject.stores.uploads.put_back(&claimed, at).await.unwrap(), "it is done with");
}

/// Invalid uploads are kept with their reason and never claimed again.
pub async fn rejected_with_the_reason(subject: &Subject) {
    let (org, at) = (org(), now());
    let claimed = claimed_upload(&subject.stores, &upload(&org, at)).await;
    let foreign = ClaimedUpload { claim: Uuid::nil(), ..claimed.clone() };
    assert!(!subject.stores.uploads.reject(&foreign, "no").await.unwrap());
    assert_eq!(only(subject, &org).await.state, UploadState::Pending);
    assert!(subject.stores.uploads.reject(&claimed, "line 3: \"x\" is ñot JSON").await.unwrap());
    let row = only(subject, &org).await;
    assert_eq!(row.state, UploadState::Invalid);
    assert_eq!(row.reason.as_deref(), Some("line 3: \"x\" is ñot JSON"));
    assert!(!subject.stores.uploads.reject(&claimed, "again").await.unwrap());
    assert!(claim(subject, at + Duration::hours(1)).await.is_none());
}

/// Newest first, in pages, of one organisation.
pub async fn listed_newest_first(subject: &Subject) {
    let (org, other, at) = (org(), org(), now());
    let uploads = [2, 3, 1].map(|age| upload(&org, at - Duration::seconds(age)));
    for upload in uploads.iter().chain([&upload(&other, at)]) {
        subject.stores.uploads.accept(upload).await.unwrap();
    }
    let list = async |limit, offset| {
        let page = subject.stores.uploads.list(&org, limit, offset).await.unwrap();
        assert_eq!(page.total, 3);
        page.rows
    };
    let [second, third, first] = uploads;
    assert_eq!(list(10, 0).await, [first, second.clone(), third.clone()]);
    assert_eq!(list(2, 1).await, [second, third]);
    assert_eq!(list(2, 3).await, []);
}

/// Archives of applied uploads and of none at all may go; every other one stays.
pub async fn what_is_not_needed(subject: &Subject) {
    let (org, at) = (org(), now());
    let (run, unknown) = (run(&org), Uuid::new_v4());
    let applied = upload(&org, at);
    let claimed = claimed_upload(&subject.stores, &applied).await;
    let update = update(&run, RunStatus::Success, &["a"], "");
    subject.stores.uploads.apply(&claimed, &update.clone().into(), at).await.unwrap();
    let invalid = upload(&org, at);
    let claimed = claimed_upload(&subject.stores, &invalid).await;
    subject.stores.uploads.reject(&claimed, "no").await.unwrap();
    let pending = upload(&org, at);
    subject.stores.uploads.accept(&pending).await.unwrap();
    let all = [pending.id, unknown, invalid.id, applied.id];
    let rest = subject.stores.uploads.not_needed(&all).await.unwrap();
    assert_eq!(rest, [unknown, applied.id]);
    assert_eq!(subject.stores.uploads.not_needed(&[]).await.unwrap(), Vec::<Uuid>::new());
}
