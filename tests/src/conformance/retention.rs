//! What is kept for a while only: what goes, what stays, and that nothing goes that is not over.

use dispatcher_api::{
    execution::model::{AppendOutcome, FinishOutcome},
    runs::model::NewRun,
    store::retention::{Purge, Purged},
};
use dispatcher_wire::{RunStatus, event::RunnerEvent};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{
    Subject,
    fixtures::{
        append, batch, claimed_upload, create, finish, finished, foreign_run, host_rows, hosts,
        now, org, run, started, stats, status, update, upload,
    },
};

async fn over(subject: &Subject, before: OffsetDateTime, with_output: bool) -> Vec<Uuid> {
    let (mut ids, mut after) = (Vec::new(), None);
    loop {
        let page = subject.stores.retention.final_runs(before, after, 2, with_output).await;
        let page = page.unwrap();
        ids.extend(page.ids);
        let Some(last) = page.last else { return ids };
        after = Some(last);
    }
}

/// A run of our workers that has ended with output, a moment ago.
async fn ended(subject: &Subject) -> NewRun {
    let at = now();
    let mut one = run(&org());
    one.hosts = hosts(&["a", "b"]);
    create(&subject.stores, std::slice::from_ref(&one)).await;
    let hold = started(&subject.stores, &one, at).await;
    let outcome = stats(&[("a", false), ("b", false)]);
    finished(&subject.stores, hold, 1, outcome, at).await;
    one
}

/// A foreign run that an upload has ended, with a log.
async fn uploaded(subject: &Subject) -> NewRun {
    let at = now();
    let one = foreign_run(&org());
    create(&subject.stores, std::slice::from_ref(&one)).await;
    let bound =
        dispatcher_api::uploads::model::Upload { run_id: Some(one.id), ..upload(&one.org_id, at) };
    let claimed = claimed_upload(&subject.stores, &bound).await;
    let mut said = update(&one, RunStatus::Success, &["a"], "it went well\n");
    let event = RunnerEvent { event: "verbose".to_owned(), ..RunnerEvent::default() };
    said.events = vec![event; 3];
    subject.stores.uploads.apply(&claimed, &said.clone().into(), at).await.unwrap();
    one
}

/// Output goes, rows stay, without an event; once.
pub async fn output_goes_and_runs_stay(subject: &Subject) {
    let runs = [ended(subject).await, uploaded(subject).await];
    let running = run(&org());
    create(&subject.stores, std::slice::from_ref(&running)).await;
    let ids = runs.each_ref().map(|run| run.id);
    let retention = &subject.stores.retention;
    let (early, late) = (now() - Duration::hours(1), now() + Duration::hours(1));
    assert_eq!(over(subject, early, true).await, NONE);
    let mut found = over(subject, late, true).await;
    found.sort();
    let mut sorted = ids;
    sorted.sort();
    assert_eq!(found, sorted);
    let kept = retention.purge_output(&ids, early, Purge::Remove(now())).await.unwrap();
    assert_eq!(kept, Purged::default(), "judged again");
    let told = [subject.told(ids[0]).await, subject.told(ids[1]).await];
    let counted = retention.purge_output(&ids, late, Purge::Count).await.unwrap();
    assert_eq!(counted.outputs, 2);
    assert!(!log(subject, &runs[0]).await.is_empty(), "counting changes nothing");
    let all = [ids[0], ids[1], running.id];
    let removed = retention.purge_output(&all, late, Purge::Remove(now())).await.unwrap();
    assert_eq!(removed, counted);
    for run in &runs {
        assert_eq!(log(subject, run).await, b"");
        assert_eq!(status(&subject.stores, run).await, RunStatus::Success);
        assert!(host_rows(&subject.stores, run).await.iter().all(|row| row.log.is_empty()));
        assert_eq!(subject.probe.run_events(run.id).await, serde_json::json!([]));
    }
    assert_eq!(over(subject, late, true).await, NONE, "nothing is left to go");
    assert_eq!(over(subject, late, false).await.len(), 2);
    assert_eq!([subject.told(ids[0]).await, subject.told(ids[1]).await], told);
}

const NONE: [Uuid; 0] = [];

/// The whole log; its reader must see its end.
async fn log(subject: &Subject, run: &NewRun) -> Vec<u8> {
    let slice = subject.stores.runs.read_log(&run.org_id, run.id, None, 0, 1 << 20).await;
    let slice = slice.unwrap().expect("the run is there");
    assert!(slice.complete, "whoever follows it would wait for ever");
    slice.bytes
}

/// Runs go with all that is theirs but their events, of which there is one more.
pub async fn runs_go_with_all_that_is_theirs(subject: &Subject) {
    let runs = [ended(subject).await, uploaded(subject).await];
    let running = run(&org());
    create(&subject.stores, std::slice::from_ref(&running)).await;
    let ids = [runs[0].id, runs[1].id, running.id, Uuid::new_v4()];
    let retention = &subject.stores.retention;
    let (early, late) = (now() - Duration::hours(1), now() + Duration::hours(1));
    let kept = retention.purge_runs(&ids, early, Purge::Remove(now())).await.unwrap();
    assert_eq!(kept, Purged::default());
    let before = subject.told(runs[0].id).await.len();
    let removed = retention.purge_runs(&ids, late, Purge::Remove(now())).await.unwrap();
    assert_eq!((removed.runs, removed.run_hosts, removed.uploads), (2, 3, 1));
    assert_eq!(removed.objects.len(), 1);
    for run in &runs {
        assert!(subject.stores.runs.get(&run.org_id, run.id).await.unwrap().is_none());
        let told = subject.told(run.id).await;
        assert!(told.contains(&"run delete success".to_owned()), "{told:?}");
        let last = subject.probe.outbox(run.id).await.pop().unwrap();
        assert_eq!((last.event_type.as_str(), last.entity_id), ("delete", run.id));
    }
    assert_eq!(subject.told(runs[0].id).await.len(), before + 1);
    assert_eq!(status(&subject.stores, &running).await, RunStatus::Running);
    let again = retention.purge_runs(&ids, late, Purge::Remove(now())).await.unwrap();
    assert_eq!(again, Purged::default());
}

/// What would go is counted, and stays.
pub async fn counting_changes_nothing(subject: &Subject) {
    let runs = [ended(subject).await, uploaded(subject).await];
    let ids = runs.each_ref().map(|run| run.id);
    let (retention, late) = (&subject.stores.retention, now() + Duration::hours(1));
    let counted = retention.purge_runs(&ids, late, Purge::Count).await.unwrap();
    assert_eq!((counted.runs, counted.run_hosts, counted.uploads), (2, 3, 1));
    let removed = retention.purge_runs(&ids, late, Purge::Remove(now())).await.unwrap();
    assert_eq!(removed.objects.len(), 1);
    assert_eq!(Purged { objects: Vec::new(), ..removed }, counted);
}

/// A run whose time is over is final, and its worker may still report: it stays until that, too, is
/// out of its window.
pub async fn work_that_goes_on_is_waited_for(subject: &Subject) {
    let at = now();
    let one = NewRun { created_at: at - Duration::seconds(7), timeout: 7, ..run(&org()) };
    create(&subject.stores, std::slice::from_ref(&one)).await;
    let hold = started(&subject.stores, &one, at - Duration::seconds(3)).await;
    subject.stores.upkeep.expire(at, 9).await.unwrap();
    assert_eq!(status(&subject.stores, &one).await, RunStatus::Timeout);
    // Its last change lies before, its time was over exactly then.
    assert_eq!(over(subject, at, false).await, NONE);
    append(&subject.stores, hold, &batch(1, &["late\n"], at)).await;
    assert_eq!(over(subject, at + Duration::seconds(1), false).await, [one.id]);
}

/// Uploads of no run, and the audit, by their own age.
pub async fn uploads_and_audit_by_age(subject: &Subject) {
    let at = now();
    let old = upload(&org(), at - Duration::hours(2));
    let claimed = claimed_upload(&subject.stores, &old).await;
    assert!(subject.stores.uploads.reject(&claimed, "no").await.unwrap());
    subject.stores.uploads.accept(&upload(&org(), at - Duration::hours(2))).await.unwrap();
    let retention = &subject.stores.retention;
    let hour = at - Duration::hours(1);
    let removed = Purge::Remove(at);
    let earlier = retention.purge_uploads(at - Duration::hours(3), 9, removed).await.unwrap();
    assert_eq!(earlier, Purged::default());
    assert_eq!(retention.purge_uploads(hour, 9, Purge::Count).await.unwrap().uploads, 1);
    let purged = retention.purge_uploads(hour, 9, removed).await.unwrap();
    assert_eq!((purged.uploads, purged.objects), (1, vec![old.object]), "not the pending one");
    assert_eq!(retention.purge_audit(hour, 9, Purge::Count).await.unwrap(), Purged::default());
    assert_eq!(retention.purge_audit(hour, 9, removed).await.unwrap(), Purged::default());
}

/// Purges beside a worker that reports: whoever is first, nothing is half gone.
pub async fn purges_beside_work(subject: &Subject) {
    for _ in 0..10 {
        let at = now();
        let mut one = NewRun { created_at: at - Duration::seconds(7), timeout: 7, ..run(&org()) };
        one.hosts = hosts(&["a"]);
        create(&subject.stores, std::slice::from_ref(&one)).await;
        let hold = started(&subject.stores, &one, at - Duration::seconds(3)).await;
        subject.stores.upkeep.expire(at, 9).await.unwrap();
        let late = at + Duration::hours(1);
        let purges: Vec<_> = (0..3)
            .map(|number| {
                let (retention, id) = (subject.stores.retention.clone(), one.id);
                tokio::spawn(async move {
                    let purge = Purge::Remove(at);
                    if number == 0 {
                        retention.purge_output(&[id], late, purge).await.unwrap();
                    }
                    retention.purge_runs(&[id], late, purge).await.unwrap().runs
                })
            })
            .collect();
        for number in 1..4 {
            let appended = subject.stores.work.append(hold, &batch(number, &["x"], at)).await;
            let taken = matches!(appended.unwrap(), AppendOutcome::Applied { .. });
            if !taken {
                break;
            }
        }
        let outcome = subject.stores.work.finish(hold, &finish(4, at)).await.unwrap();
        assert!(
            matches!(outcome, FinishOutcome::Final(_) | FinishOutcome::NotYours),
            "{outcome:?}"
        );
        let mut gone = 0;
        for purge in purges {
            gone += purge.await.unwrap();
        }
        assert_eq!(gone, 1);
        assert!(subject.stores.runs.get(&one.org_id, one.id).await.unwrap().is_none());
        assert!(host_rows(&subject.stores, &one).await.is_empty());
        assert!(!subject.probe.has_inputs(one.id).await);
        let told = subject.told(one.id).await;
        assert_eq!(told.iter().filter(|told| told.contains("delete")).count(), 1, "{told:?}");
    }
}
