//! What valid uploads do to runs and hosts: which run, which states, what is stored and told.

use dispatcher_api::{
    runs::model::{NewRoute, NewRun},
    uploads::model::{ApplyOutcome, ClaimedUpload, OUT_OF_DATE, RunnerUpdate, Upload, UploadState},
};
use dispatcher_wire::{RunStatus, event::RunnerEvent};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{
    Subject,
    fixtures::{
        claimed_upload, create, detail, doorbell, foreign_run, host_rows, host_states, hosts, now,
        org, run, started, status, update, upload,
    },
};

/// Receives and applies an update for an organisation.
async fn apply(
    subject: &Subject,
    org: &str,
    update: &RunnerUpdate,
    at: OffsetDateTime,
) -> ApplyOutcome {
    let claimed = claimed_upload(&subject.stores, &upload(org, at)).await;
    subject.stores.uploads.apply(&claimed, &update.clone().into(), at).await.unwrap()
}

/// From running to success by two uploads: states, logs and events are replaced, hosts appear.
pub async fn a_run_reports_itself(subject: &Subject) {
    let (org, at) = (org(), now());
    let mut run = foreign_run(&org);
    run.hosts = hosts(&["a"]);
    create(&subject.stores, std::slice::from_ref(&run)).await;
    let event = RunnerEvent { event: "verbose".to_owned(), ..RunnerEvent::default() };
    let first = RunnerUpdate {
        events: vec![event.clone()],
        ..update(&run, RunStatus::Running, &["a", "b"], "one")
    };
    assert_eq!(apply(subject, &org, &first, at).await, ApplyOutcome::Applied);
    let rows = host_rows(&subject.stores, &run).await;
    assert!(rows.iter().all(|row| (row.status, &*row.log) == (RunStatus::Running, "one")));
    assert_eq!(subject.probe.run_events(run.id).await, serde_json::json!([event]));
    let later = at + Duration::seconds(1);
    let second = RunnerUpdate {
        events: vec![event.clone(), event.clone()],
        error: Some(("CODE".to_owned(), "why".to_owned())),
        ..update(&run, RunStatus::Success, &["a", "b"], "one\ntwo")
    };
    assert_eq!(apply(subject, &org, &second, later).await, ApplyOutcome::Applied);
    let rows = host_rows(&subject.stores, &run).await;
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| (row.status, &*row.log) == (RunStatus::Success, "one\ntwo")));
    assert_eq!(rows[0].id, run.hosts[0].id, "the row of a known host stays");
    assert_eq!(subject.probe.run_events(run.id).await, serde_json::json!([event, event]));
    let detail = detail(&subject.stores, &run).await;
    assert_eq!((detail.run.status, detail.run.updated_at), (RunStatus::Success, later));
    assert_eq!(detail.error, Some(("CODE".to_owned(), "why".to_owned())));
    let told = [
        "run create running",
        "run update running",
        "run update success",
        "run_host create running",
        "run_host create running",
        "run_host update running",
        "run_host update success",
        "run_host update success",
    ];
    assert_eq!(subject.told(run.id).await, told);
}

/// Every state against every update: only what may become something becomes it.
pub async fn states_obey_the_rules(subject: &Subject) {
    let at = now();
    for from in RunStatus::ALL {
        for to in RunStatus::ALL {
            let run = foreign_run(&org());
            create(&subject.stores, std::slice::from_ref(&run)).await;
            let org = &run.org_id;
            apply(subject, org, &update(&run, from, &["a"], "before"), at).await;
            assert_eq!(status(&subject.stores, &run).await, from);
            let told = subject.told(run.id).await.len();
            apply(subject, org, &update(&run, to, &["a"], "after"), at).await;
            let may = from.may_become(to);
            let expected = if may { to } else { from };
            assert_eq!(status(&subject.stores, &run).await, expected, "{from} to {to}");
            let row = &host_rows(&subject.stores, &run).await[0];
            let host_changes = may || from == RunStatus::Running;
            let log = if host_changes { "after" } else { "before" };
            assert_eq!((row.status, row.log.as_str()), (expected, log), "{from} to {to}");
            if matches!(from, RunStatus::Success | RunStatus::Failure) {
                let stays = subject.told(run.id).await.len();
                assert_eq!(stays, told, "{from} to {to} is told");
            }
        }
    }
}

/// The run is found in the upload's organisation by correlation id, the lowest id first; the
/// token's run, where there is a token.
pub async fn the_run_is_found(subject: &Subject) {
    let (org, at) = (org(), now());
    let mut runs: Vec<_> = (0..3).map(|_| foreign_run(&org)).collect();
    runs.sort_by_key(|run| run.id);
    runs[1].correlation_id = runs[0].correlation_id;
    runs.reverse();
    create(&subject.stores, &runs).await;
    runs.reverse();
    let success = update(&runs[0], RunStatus::Success, &["a"], "");
    assert_eq!(apply(subject, "other", &success, at).await, ApplyOutcome::NoRun);
    let unknown = RunnerUpdate { correlation_id: Uuid::new_v4(), ..success.clone() };
    assert_eq!(apply(subject, &org, &unknown, at).await, ApplyOutcome::NoRun);
    let bound = Upload { run_id: Some(runs[2].id), ..upload(&org, at) };
    let bound = claimed_upload(&subject.stores, &bound).await;
    let outcome = subject.stores.uploads.apply(&bound, &success.clone().into(), at).await.unwrap();
    assert_eq!(outcome, ApplyOutcome::NoRun, "the token is another run's");
    for run in &runs {
        assert_eq!(status(&subject.stores, run).await, RunStatus::Running);
    }
    assert_eq!(apply(subject, &org, &success, at).await, ApplyOutcome::Applied);
    assert_eq!(status(&subject.stores, &runs[0]).await, RunStatus::Success);
    assert_eq!(status(&subject.stores, &runs[1]).await, RunStatus::Running);
    let rows = subject.stores.uploads.list(&org, 10, 0).await.unwrap().rows;
    assert!(rows.iter().all(|row| row.state == UploadState::Applied), "{rows:?}");
    let reasons = rows.iter().filter(|row| row.reason.is_some()).count();
    assert_eq!(reasons, 2, "those without a run say so");
}

/// An upload is applied once; repeated under its claim, it is answered alike and changes nothing.
pub async fn applied_once(subject: &Subject) {
    let (org, at) = (org(), now());
    let run = foreign_run(&org);
    create(&subject.stores, std::slice::from_ref(&run)).await;
    let claimed = claimed_upload(&subject.stores, &upload(&org, at)).await;
    let running = update(&run, RunStatus::Running, &["a"], "x");
    let first = subject.stores.uploads.apply(&claimed, &running.clone().into(), at).await.unwrap();
    assert_eq!(first, ApplyOutcome::Applied);
    let told = subject.told(run.id).await;
    let again = subject.stores.uploads.apply(&claimed, &running.clone().into(), at).await.unwrap();
    assert_eq!(again, ApplyOutcome::Applied);
    assert_eq!(subject.told(run.id).await, told);
    assert!(!subject.stores.uploads.reject(&claimed, "too late").await.unwrap());
    let foreign = ClaimedUpload { claim: Uuid::nil(), ..claimed };
    let refused =
        subject.stores.uploads.apply(&foreign, &running.clone().into(), at).await.unwrap();
    assert_eq!(refused, ApplyOutcome::NotYours);
    let lease = std::time::Duration::from_secs(1);
    let later = at + Duration::hours(1);
    assert!(subject.stores.uploads.claim(Uuid::new_v4(), later, lease).await.unwrap().is_none());
}

/// A timeout gives way to a late success, hosts and all.
pub async fn a_late_success_replaces_a_timeout(subject: &Subject) {
    let (org, at) = (org(), now());
    let mut run = foreign_run(&org);
    (run.created_at, run.timeout) = (at - Duration::seconds(5), 5);
    run.hosts = hosts(&["a"]);
    create(&subject.stores, std::slice::from_ref(&run)).await;
    subject.stores.upkeep.expire(at, 10).await.unwrap();
    let partial = update(&run, RunStatus::Running, &["a"], "partial");
    apply(subject, &org, &partial, at).await;
    let timeout = ("a".to_owned(), RunStatus::Timeout);
    assert_eq!(host_states(&subject.stores, &run).await, [timeout]);
    assert_eq!(status(&subject.stores, &run).await, RunStatus::Timeout);
    apply(subject, &org, &update(&run, RunStatus::Success, &["a"], "whole"), at).await;
    let row = &host_rows(&subject.stores, &run).await[0];
    assert_eq!((row.status, row.log.as_str()), (RunStatus::Success, "whole"));
    assert_eq!(status(&subject.stores, &run).await, RunStatus::Success);
}

/// Runs of our workers take events from their worker only: an upload, found by correlation id or
/// bound to the run by a token, changes nothing and says why.
pub async fn runs_of_workers_are_left_alone(subject: &Subject) {
    let (org, at) = (org(), now());
    let inputs = || Some(serde_json::json!({}));
    let route = || NewRoute::Worker { inputs: inputs(), sealed_secrets: Some(vec![1]) };
    let [waiting, going] = [(); 2].map(|()| NewRun { route: route(), ..run(&org) });
    create(&subject.stores, &[waiting.clone(), going.clone()]).await;
    let hold = started(&subject.stores, &going, at).await;
    for run in [&waiting, &going] {
        let told = subject.told(run.id).await;
        for token in [None, Some(run.id)] {
            let upload = Upload { run_id: token, ..upload(&org, at) };
            let claimed = claimed_upload(&subject.stores, &upload).await;
            let success = update(run, RunStatus::Success, &["a"], "forged");
            for _ in 0..2 {
                let outcome = subject
                    .stores
                    .uploads
                    .apply(&claimed, &success.clone().into(), at)
                    .await
                    .unwrap();
                assert_eq!(outcome, ApplyOutcome::NoRun);
            }
            let rows = subject.stores.uploads.list(&org, 10, 0).await.unwrap().rows;
            let kept = rows.iter().find(|row| row.id == upload.id).unwrap();
            let reason = kept.reason.as_deref().unwrap();
            assert!(reason.contains("takes events from that worker only"), "{reason}");
        }
        assert_eq!(status(&subject.stores, run).await, RunStatus::Running);
        assert_eq!(host_rows(&subject.stores, run).await, []);
        assert_eq!(subject.told(run.id).await, told);
    }
    assert!(subject.probe.has_inputs(waiting.id).await, "it can still be started");
    super::fixtures::claimed(&subject.stores, &waiting, at).await;
    let bell = doorbell(&subject.stores, hold.recipient, at).await;
    assert_eq!(bell.cancel, super::fixtures::NONE);
}

/// A first upload without hosts makes `localhost`; the upload that ends the run names others.
/// Whoever runs then ends with the run, is told so once, and keeps its log; whoever is final stays.
pub async fn hosts_that_the_end_does_not_name(subject: &Subject) {
    let (org, at) = (org(), now());
    for end in [RunStatus::Success, RunStatus::Failure] {
        let mut run = foreign_run(&org);
        run.hosts = hosts(&["a", "silent"]);
        create(&subject.stores, std::slice::from_ref(&run)).await;
        let running = RunStatus::Running;
        apply(subject, &org, &update(&run, running, &["localhost"], "early"), at).await;
        let mut broken = update(&run, running, &["broken"], "middle");
        broken.hosts[0].1 = RunStatus::Failure;
        apply(subject, &org, &broken, at).await;
        let later = at + Duration::seconds(1);
        let last = update(&run, end, &["a", "late"], "all");
        apply(subject, &org, &last, later).await;
        let rows = host_rows(&subject.stores, &run).await;
        let seen: Vec<_> = rows.iter().map(|row| (&*row.host, row.status, &*row.log)).collect();
        let expected = [
            ("a", end, "all"),
            ("broken", RunStatus::Failure, "middle"),
            ("late", end, "all"),
            ("localhost", end, "early"),
            ("silent", end, ""),
        ];
        assert_eq!(seen, expected);
        let ended = rows.iter().filter(|row| row.host != "broken");
        assert!(ended.clone().all(|row| row.updated_at == later), "{rows:?}");
        let told = subject.told(run.id).await;
        let updates = format!("run_host update {end}");
        assert_eq!(told.iter().filter(|told| **told == updates).count(), 3, "{told:?}");
        apply(subject, &org, &last, later).await;
        assert_eq!(subject.told(run.id).await, told);
    }
}

/// Uploads hold everything so far: one with fewer events than were applied changes nothing, unless
/// it says how the run has ended.
pub async fn overtaken(subject: &Subject) {
    let (org, at) = (org(), now());
    let run = foreign_run(&org);
    create(&subject.stores, std::slice::from_ref(&run)).await;
    let event = RunnerEvent { event: "verbose".to_owned(), ..RunnerEvent::default() };
    let with = |events: usize, status, log: &str| RunnerUpdate {
        events: vec![event.clone(); events],
        ..update(&run, status, &["a"], log)
    };
    let longer = with(3, RunStatus::Running, "three");
    assert_eq!(apply(subject, &org, &longer, at).await, ApplyOutcome::Applied);
    let told = subject.told(run.id).await;
    let late = upload(&org, at + Duration::seconds(1));
    let claimed = claimed_upload(&subject.stores, &late).await;
    let shorter = with(2, RunStatus::Running, "two");
    let outcome =
        subject.stores.uploads.apply(&claimed, &shorter.clone().into(), at).await.unwrap();
    assert_eq!(outcome, ApplyOutcome::OutOfDate);
    assert_eq!(subject.told(run.id).await, told);
    assert_eq!(host_rows(&subject.stores, &run).await[0].log, "three");
    let kept = subject.stores.uploads.list(&org, 1, 0).await.unwrap().rows.remove(0);
    assert_eq!((kept.id, kept.state), (late.id, UploadState::Applied));
    assert_eq!(kept.reason.as_deref(), Some(OUT_OF_DATE));
    assert_eq!(apply(subject, &org, &longer, at).await, ApplyOutcome::Applied, "as many");
    let ended = with(1, RunStatus::Failure, "the end");
    assert_eq!(apply(subject, &org, &ended, at).await, ApplyOutcome::Applied);
    assert_eq!(status(&subject.stores, &run).await, RunStatus::Failure);
}

/// NUL, which PostgreSQL's text cannot hold, becomes U+FFFD wherever a host could send it.
pub async fn nul_is_replaced(subject: &Subject) {
    let (org, at) = (org(), now());
    let run = foreign_run(&org);
    create(&subject.stores, std::slice::from_ref(&run)).await;
    let hostile = RunnerUpdate {
        error: Some(("C\0".to_owned(), "d\0d".to_owned())),
        ..update(&run, RunStatus::Success, &["a\0b", "a\u{FFFD}b", "c"], "x\0y")
    };
    assert_eq!(apply(subject, &org, &hostile, at).await, ApplyOutcome::Applied);
    let rows = host_rows(&subject.stores, &run).await;
    let rows: Vec<_> = rows.iter().map(|row| (&*row.host, &*row.log)).collect();
    assert_eq!(rows, [("a\u{FFFD}b", "x\u{FFFD}y"), ("c", "x\u{FFFD}y")]);
    let error = detail(&subject.stores, &run).await.error;
    assert_eq!(error, Some(("C\u{FFFD}".to_owned(), "d\u{FFFD}d".to_owned())));
}
