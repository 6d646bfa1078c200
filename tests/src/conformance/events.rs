//! Events on their way to consumers: read in order, marked by right, told again on demand.

use std::time::Duration as StdDuration;

use dispatcher_api::{
    events::model::{HEARTBEAT, ReadFilter, ReadPage, StoredEvent},
    runs::model::NewRun,
    store::events::{BatchSize, Fence, OUTBOX_LEASE},
};
use dispatcher_wire::RunStatus;
use time::Duration;
use uuid::Uuid;

use super::{
    Subject,
    fixtures::{create, finished, foreign_run, hosts, now, org, run, started, stats, status},
};

const ALL: BatchSize = BatchSize { events: 10_000, stdout: 1 << 20, bytes: 1 << 30 };

async fn unpublished(subject: &Subject, size: BatchSize) -> Vec<StoredEvent> {
    subject.stores.events.unpublished(size).await.unwrap()
}

/// Takes the lease; the right that comes with it.
async fn right(subject: &Subject, ttl: StdDuration) -> Fence {
    let holder = Uuid::new_v4();
    let lease = subject.stores.leases.hold(OUTBOX_LEASE, holder, "a", ttl).await.unwrap();
    Fence { holder, epoch: lease.expect("the lease is free").epoch }
}

/// Two runs with hosts, one of which has ended.
async fn two_runs(subject: &Subject) -> [NewRun; 2] {
    let at = now();
    let mut runs = [run(&org()), run(&org())];
    runs.iter_mut().for_each(|run| run.hosts = hosts(&["a", "b"]));
    create(&subject.stores, &runs).await;
    let hold = started(&subject.stores, &runs[0], at).await;
    let outcome = stats(&[("a", false), ("b", false)]);
    assert_eq!(finished(&subject.stores, hold, 1, outcome, at).await, RunStatus::Success);
    runs
}

/// Everything that changed, in the order of each run, with the output of final hosts.
pub async fn read_in_the_order_of_each_run(subject: &Subject) {
    let runs = two_runs(subject).await;
    let events = unpublished(subject, ALL).await;
    for run in &runs {
        let own: Vec<_> = events.iter().filter(|event| event.run_id == run.id).collect();
        let numbers: Vec<i64> = own.iter().map(|event| event.run_seq).collect();
        assert_eq!(numbers, (1..=own.len() as i64).collect::<Vec<_>>());
        assert_eq!(own.len(), subject.told(run.id).await.len());
        assert!(own.iter().all(|event| event.org_id == run.org_id));
    }
    let ended = events.iter().find(|event| {
        (event.run_id, event.status.as_str(), event.entity.as_str())
            == (runs[0].id, "success", "run_host")
    });
    assert_eq!(ended.expect("a host ended").stdout.text(100), "end\n");
    let few = unpublished(subject, BatchSize { events: 3, ..ALL }).await;
    let ids = |events: &[StoredEvent]| events.iter().map(|event| event.id).collect::<Vec<_>>();
    assert_eq!(ids(&few), ids(&events)[..3]);
}

/// The sign of life of the original's connector comes and times out, and nobody is told.
pub async fn a_heartbeat_is_told_to_nobody(subject: &Subject) {
    let heartbeat = NewRun { id: HEARTBEAT, hosts: hosts(&["a"]), ..run(&org()) };
    let other = run(&org());
    create(&subject.stores, &[heartbeat.clone(), other.clone()]).await;
    let over = now() + Duration::hours(2);
    assert_eq!(subject.stores.upkeep.expire(over, 10).await.unwrap().runs, 2);
    assert_eq!(status(&subject.stores, &heartbeat).await, RunStatus::Timeout);
    assert!(subject.probe.outbox(HEARTBEAT).await.is_empty());
    let filter = ReadFilter { org_id: Some(heartbeat.org_id.clone()), ..ReadFilter::default() };
    subject.stores.events.write_reads(&filter, None, 10, over).await.unwrap();
    let events = unpublished(subject, ALL).await;
    assert!(events.iter().all(|event| event.run_id == other.id), "{events:?}");
    assert_eq!(subject.told(other.id).await, ["run create running", "run update timeout"]);
}

/// Long output comes as its ends, and much of it in several batches.
pub async fn output_is_bounded(subject: &Subject) {
    let at = now();
    let mut long = run(&org());
    long.hosts = hosts(&["a", "b", "c"]);
    create(&subject.stores, std::slice::from_ref(&long)).await;
    let hold = started(&subject.stores, &long, at).await;
    let text = format!("first{}last", "é".repeat(4_000));
    let batch = super::fixtures::batch(1, &[&text], at);
    super::fixtures::append(&subject.stores, hold, &batch).await;
    let outcome = stats(&[("a", false), ("b", false), ("c", false)]);
    finished(&subject.stores, hold, 2, outcome, at).await;
    let size = BatchSize { stdout: 1_000, ..ALL };
    let events = unpublished(subject, size).await;
    let with_output: Vec<_> = events.iter().filter(|event| event.stdout.total > 0).collect();
    assert!(with_output.len() >= 3, "{}", with_output.len());
    for event in &with_output {
        let text = event.stdout.text(1_000);
        assert!(text.len() <= 1_000 && text.starts_with("first"), "{text}");
        assert!(text.ends_with("last") || text.ends_with("end\n"), "{text}");
        assert!(event.stdout.head.len() + event.stdout.tail.len() <= 1_000);
    }
    // One event fits whatever it has; then the bytes are full.
    let narrow = unpublished(subject, BatchSize { bytes: 1_500, ..size }).await;
    let counted = narrow.iter().filter(|event| event.stdout.total > 0).count();
    assert_eq!(counted, 2);
    assert!(!unpublished(subject, BatchSize { bytes: 0, ..size }).await.is_empty());
}

/// Only the lease's holder, under its epoch, marks; what is marked is not read again.
pub async fn marked_by_right_only(subject: &Subject) {
    two_runs(subject).await;
    let all = unpublished(subject, ALL).await;
    let ids: Vec<i64> = all.iter().map(|event| event.id).collect();
    let mark = async |ids: &[i64], fence| {
        subject.stores.events.mark_published(ids, fence, now()).await.unwrap()
    };
    let nobody = Fence { holder: Uuid::new_v4(), epoch: 1 };
    assert!(!mark(&ids, nobody).await);
    let first = right(subject, StdDuration::from_millis(50)).await;
    assert!(!mark(&ids, Fence { epoch: first.epoch + 1, ..first }).await);
    assert!(mark(&ids[..2], first).await);
    assert!(mark(&[], first).await, "nothing to mark is no loss");
    let second = loop {
        let holder = Uuid::new_v4();
        let lease = &subject.stores.leases;
        let ttl = StdDuration::from_secs(600);
        if let Some(lease) = lease.hold(OUTBOX_LEASE, holder, "b", ttl).await.unwrap() {
            break Fence { holder, epoch: lease.epoch };
        }
        tokio::time::sleep(StdDuration::from_millis(10)).await;
    };
    assert!(!mark(&ids[2..], first).await, "its time is over");
    assert_eq!(unpublished(subject, ALL).await.len(), ids.len() - 2);
    assert!(mark(&ids[2..], second).await);
    assert!(unpublished(subject, ALL).await.is_empty());
}

/// How many wait, and for how long.
pub async fn what_waits_is_counted(subject: &Subject) {
    let at = now();
    let count = async || subject.stores.events.backlog(at + Duration::seconds(30)).await.unwrap();
    assert_eq!((count().await.waiting, count().await.oldest_seconds), (0, 0.0));
    let one = NewRun { created_at: at, ..run(&org()) };
    create(&subject.stores, &[one, NewRun { created_at: at, ..run(&org()) }]).await;
    let backlog = count().await;
    assert_eq!(backlog.waiting, 2);
    assert!((backlog.oldest_seconds - 30.0).abs() < 0.001, "{backlog:?}");
}

/// With a broker, what it does not have is kept however old it is.
pub async fn only_what_a_broker_has_is_forgotten(subject: &Subject) {
    create(&subject.stores, &[run(&org()), run(&org())]).await;
    let first = unpublished(subject, ALL).await[0].id;
    let fence = right(subject, StdDuration::from_secs(600)).await;
    assert!(subject.stores.events.mark_published(&[first], fence, now()).await.unwrap());
    let later = now() + Duration::hours(1);
    assert_eq!(subject.stores.upkeep.forget(later, later, true, 9).await.unwrap(), 1);
    assert_eq!(subject.stores.upkeep.forget(later, later, true, 9).await.unwrap(), 0);
    assert_eq!(subject.stores.upkeep.forget(later, later, false, 9).await.unwrap(), 1);
}

async fn all_reads(subject: &Subject, filter: &ReadFilter, limit: i64) -> (u64, u64, u32) {
    let (mut sum, mut after, mut pages) = (ReadPage::default(), None, 0);
    loop {
        let at = now();
        let page = subject.stores.events.write_reads(filter, after, limit, at).await.unwrap();
        sum.runs += page.runs;
        sum.run_hosts += page.run_hosts;
        after = page.next;
        pages += 1;
        if after.is_none() {
            return (sum.runs, sum.run_hosts, pages);
        }
    }
}

/// Every run of a filter once, page by page, under the numbers that follow; as often as wanted.
pub async fn told_again_on_demand(subject: &Subject) {
    let (org, at) = (org(), now());
    let mut runs: Vec<_> = (0..5).map(|_| run(&org)).collect();
    for (number, run) in (0..).zip(&mut runs) {
        run.hosts = hosts(&["a", "b"]);
        // Some at the same moment.
        run.created_at = at - Duration::seconds(number / 2);
    }
    runs[4].service = "other".to_owned();
    create(&subject.stores, &runs).await;
    create(&subject.stores, &[run(&super::fixtures::org())]).await;
    // Not announced yet: its message is under way.
    create(&subject.stores, &[foreign_run(&org)]).await;
    let of_org = ReadFilter { org_id: Some(org.clone()), ..ReadFilter::default() };
    assert_eq!(all_reads(subject, &of_org, 2).await, (5, 10, 3));
    let other = ReadFilter { service: Some("other".to_owned()), ..of_org.clone() };
    assert_eq!(all_reads(subject, &other, 50).await, (1, 2, 1));
    let ended = ReadFilter { status: Some(RunStatus::Success), ..of_org.clone() };
    assert_eq!(all_reads(subject, &ended, 50).await, (0, 0, 1));
    let later = ReadFilter { since: Some(at + Duration::hours(1)), ..of_org };
    assert_eq!(all_reads(subject, &later, 50).await, (0, 0, 1));
    let everything = ReadFilter { service: Some("other".to_owned()), ..ReadFilter::default() };
    assert_eq!(all_reads(subject, &everything, 50).await, (1, 2, 1));
    assert_eq!(all_reads(subject, &ReadFilter::default(), 2).await.0, 6);
    let told = subject.told(runs[4].id).await;
    let reads = told.iter().filter(|told| told.contains(" read running")).count();
    assert_eq!((told.len(), reads), (3 + 12, 12), "{told:?}");
}

/// Told again while it changes, a run's numbers stay in order.
pub async fn told_again_while_it_changes(subject: &Subject) {
    let (org, at) = (org(), now());
    let mut one = run(&org);
    one.hosts = hosts(&["a"]);
    create(&subject.stores, std::slice::from_ref(&one)).await;
    // A claim passes over what is locked at the moment; it would come with the next poll.
    let hold = started(&subject.stores, &one, at).await;
    let filter = ReadFilter { org_id: Some(org), ..ReadFilter::default() };
    let tasks: Vec<_> = (0..4)
        .map(|_| {
            let (events, filter) = (subject.stores.events.clone(), filter.clone());
            tokio::spawn(async move {
                for _ in 0..5 {
                    assert_eq!(events.write_reads(&filter, None, 9, now()).await.unwrap().runs, 1);
                }
            })
        })
        .collect();
    finished(&subject.stores, hold, 1, stats(&[("a", false)]), at).await;
    for task in tasks {
        task.await.unwrap();
    }
    assert!(subject.told(one.id).await.len() >= 42);
    let events = unpublished(subject, ALL).await;
    assert!(events.is_sorted_by_key(|event| event.run_seq), "published in the run's order");
}
