//! The worker inside the process reaches the same logic as one over HTTP; and what time does to
//! its runs.

use std::{sync::Arc, time::Duration};

use dispatcher_api::{
    cleaner::Cleaner,
    config::execution::LocalSettings,
    execution::local::{LocalError, LocalLink},
    store::Expired,
};
use dispatcher_tests::{
    process::BASE,
    service::{InProcess, ORG, new_run},
    worker::{self, printed},
};
use dispatcher_wire::{RunStatus, view::RunView};
use dispatcher_worker::link::{EventSink as _, LinkError, RunSource as _};
use reqwest::Method;
use time::OffsetDateTime;
use uuid::Uuid;

async fn linked(service: &InProcess) -> (LocalLink, LocalSettings) {
    let settings = LocalSettings { org_id: ORG.to_owned(), ..service.app.settings.local.clone() };
    let execution = Arc::clone(&service.app.execution);
    (LocalLink::register(execution, &settings).await.unwrap(), settings)
}

async fn status(service: &InProcess, id: Uuid) -> RunStatus {
    let answer = service.request(Method::GET, &format!("{BASE}/runs/{id}")).send().await.unwrap();
    answer.error_for_status().unwrap().json::<RunView>().await.unwrap().status
}

#[tokio::test]
async fn a_run_goes_through_the_local_link() {
    let service = InProcess::start().await.unwrap();
    let (link, settings) = linked(&service).await;
    let recipient = settings.recipient;
    let known = service.app.stores.recipients.find(&[recipient]).await.unwrap();
    assert!(known[&recipient].is_present(OffsetDateTime::now_utc()), "present once registered");
    let id = service.create(new_run(recipient)).await.unwrap();
    assert!(link.wait(Duration::from_secs(30), 1).await.unwrap().work);
    let run = link.claim(1).await.unwrap().unwrap();
    let (run_id, claim) = (run.run_id, run.claim);
    assert!(link.inputs(run_id, claim).await.unwrap().secrets.is_none());
    let events = [worker::start(&run), printed("localhost", "hello")];
    let reply = link.append(run_id, claim, 0, &events).await.unwrap();
    assert_eq!((reply.next_counter, reply.cancel), (2, false));
    assert!(matches!(link.append(run_id, claim, 5, &events).await, Err(LinkError::Gap(2))));
    assert!(matches!(link.finish(run_id, claim, 3).await, Err(LinkError::Gap(2))));
    let foreign = link.append(run_id, Uuid::new_v4(), 2, &events).await;
    assert!(matches!(foreign, Err(LinkError::NotYours)), "{foreign:?}");
    let unusable = link.append(run_id, claim, 2, &[printed("", "nobody")]).await;
    assert!(matches!(unusable, Err(LinkError::Refused(_))), "{unusable:?}");
    link.append(run_id, claim, 2, &[worker::stats(&["localhost"], &[])]).await.unwrap();
    assert_eq!(link.finish(run_id, claim, 3).await.unwrap(), RunStatus::Success);
    assert_eq!(status(&service, id).await, RunStatus::Success);
}

#[tokio::test]
async fn a_draining_instance_takes_nothing_new_and_goes_on_with_what_it_has() {
    let service = InProcess::start().await.unwrap();
    let (link, settings) = linked(&service).await;
    let link = link.takes_nothing_once(service.app.lifecycle.draining());
    let first = service.create(new_run(settings.recipient)).await.unwrap();
    let run = link.claim(1).await.unwrap().unwrap();
    assert_eq!(run.run_id, first);
    link.append(first, run.claim, 0, &[worker::start(&run)]).await.unwrap();
    let second = service.create(new_run(settings.recipient)).await.unwrap();
    service.app.lifecycle.start_draining();
    link.append(first, run.claim, 1, &[worker::stats(&["localhost"], &[])]).await.unwrap();
    assert_eq!(link.finish(first, run.claim, 2).await.unwrap(), RunStatus::Success);
    assert!(link.claim(1).await.unwrap().is_none(), "one run waits, for somebody else");
    assert!(!link.wait(Duration::from_millis(10), 1).await.unwrap().work);
    assert_eq!(status(&service, second).await, RunStatus::Running);
    let (next, _) = linked(&service).await;
    assert!(next.wait(Duration::from_secs(30), 1).await.unwrap().work);
    assert_eq!(next.claim(1).await.unwrap().unwrap().run_id, second);
}

#[tokio::test]
async fn a_recipient_of_another_organisation_is_not_taken_over() {
    let service = InProcess::start().await.unwrap();
    let (_, settings) = linked(&service).await;
    let other = LocalSettings { org_id: "org-2".to_owned(), ..settings.clone() };
    let refused = LocalLink::register(Arc::clone(&service.app.execution), &other).await;
    assert!(matches!(refused, Err(LocalError::OtherOrg(id)) if id == settings.recipient));
}

#[tokio::test]
async fn time_ends_what_waits_and_what_runs_and_a_late_result_still_counts() {
    let service = InProcess::start().await.unwrap();
    let worker = service.worker().await.unwrap();
    let running = service.create(new_run(worker.recipient)).await.unwrap();
    let run = worker.claimed().await.unwrap();
    worker.append(&run, 0, &[worker::start(&run), printed("a", "x")]).await.unwrap();
    let waiting = service.create(new_run(worker.recipient)).await.unwrap();
    let upkeep = Arc::clone(&service.app.stores.upkeep);
    let cleaner =
        Cleaner::new(upkeep, service.app.settings.cleaner, false, service.app.wakeups.clone());
    let now = OffsetDateTime::now_utc();
    assert_eq!(cleaner.once(now).await.unwrap(), Expired::default(), "nothing has expired yet");
    let later = now + time::Duration::hours(2);
    assert_eq!(cleaner.once(later).await.unwrap(), Expired { runs: 2, hosts: 1 });
    assert_eq!(cleaner.once(later).await.unwrap(), Expired::default());
    for id in [running, waiting] {
        assert_eq!(status(&service, id).await, RunStatus::Timeout);
    }
    assert_eq!(worker.wait(30).await.unwrap().cancel, [running]);
    assert!(worker.append(&run, 2, &[worker::stats(&["a"], &[])]).await.unwrap().cancel);
    assert_eq!(worker.finish(&run, 3).await.unwrap().status, RunStatus::Success);
    assert!(worker.claim().await.unwrap().is_none(), "the other one is never started");
}
