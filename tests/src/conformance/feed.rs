//! The feed of events: complete and in order from any place, however it is cut into pages; what is
//! kept no more is said to be missing.

use std::time::Instant;

use dispatcher_api::{
    events::model::{FeedPage, Position, StoredEvent},
    store::events::BatchSize,
};
use time::Duration;
use uuid::Uuid;

use super::{
    Subject,
    fixtures::{create, finished, hosts, now, org, run, started, stats},
};
use crate::process::PATIENCE;

const ALL: BatchSize = BatchSize { events: 10_000, stdout: 1 << 20, bytes: 1 << 30 };

async fn page(subject: &Subject, org: &str, after: Position, size: BatchSize) -> FeedPage {
    subject.stores.feed.feed(org, after, size).await.unwrap()
}

/// Everything after a place, in pages of that size, once there are so many events: transactions of others
/// may hold them back.
async fn read(
    subject: &Subject,
    (org, count): (&str, usize),
    after: Position,
    size: BatchSize,
) -> Vec<(Position, StoredEvent)> {
    let (mut all, mut at, begun) = (Vec::new(), after, Instant::now());
    while all.len() < count {
        assert!(begun.elapsed() < PATIENCE, "{} of {count} events", all.len());
        let page = page(subject, org, at, size).await;
        assert!(page.upto >= at, "it went back");
        at = page.upto;
        all.extend(page.events);
    }
    assert_eq!(all.len(), count);
    all
}

/// An organisation with two runs, one of which has ended, and how many events that makes.
async fn two_runs(subject: &Subject) -> (String, [Uuid; 2], usize) {
    let (org, at) = (org(), now());
    let mut runs = [run(&org), run(&org)];
    runs.iter_mut().for_each(|run| run.hosts = hosts(&["a", "b"]));
    create(&subject.stores, &runs).await;
    let hold = started(&subject.stores, &runs[0], at).await;
    finished(&subject.stores, hold, 1, stats(&[("a", false), ("b", false)]), at).await;
    let ids = [runs[0].id, runs[1].id];
    let count = subject.told(ids[0]).await.len() + subject.told(ids[1]).await.len();
    (org, ids, count)
}

/// Whatever the size of the pages, and from any place that was read.
pub async fn in_order_from_any_place(subject: &Subject) {
    let begin = subject.stores.feed.feed_end().await.unwrap();
    let (org, runs, count) = two_runs(subject).await;
    two_runs(subject).await;
    let all = read(subject, (&org, count), begin, ALL).await;
    assert!(all.is_sorted_by_key(|(place, _)| *place));
    for id in runs {
        let own = all.iter().filter(|(_, event)| event.run_id == id);
        let numbers: Vec<i64> = own.map(|(_, event)| event.run_seq).collect();
        assert_eq!(numbers, (1..=numbers.len() as i64).collect::<Vec<_>>());
    }
    let ended = all.iter().find(|(_, event)| {
        (event.entity.as_str(), event.status.as_str()) == ("run_host", "success")
    });
    assert_eq!(ended.expect("a host ended").1.stdout.text(100), "end\n");
    let places = |events: &[(Position, StoredEvent)]| {
        events.iter().map(|(place, event)| (*place, event.run_seq)).collect::<Vec<_>>()
    };
    for number in 0..count {
        let rest = read(subject, (&org, count - number - 1), all[number].0, ALL).await;
        assert_eq!(places(&rest), places(&all[number + 1..]));
    }
    for size in [BatchSize { events: 1, ..ALL }, BatchSize { bytes: 0, ..ALL }] {
        let same = read(subject, (&org, count), Position::default(), size).await;
        assert_eq!(places(&same), places(&all));
    }
    let end = subject.stores.feed.feed_end().await.unwrap();
    create(&subject.stores, &[run(&org)]).await;
    assert_eq!(read(subject, (&org, 1), end, ALL).await[0].1.event_type, "create");
}

/// Whoever was away for too long learns it, once they have passed it no more.
pub async fn what_is_forgotten_is_said(subject: &Subject) {
    let (org, _, count) = two_runs(subject).await;
    let all = read(subject, (&org, count), Position::default(), ALL).await;
    assert!(!page(subject, &org, Position::default(), ALL).await.lost);
    let later = now() + Duration::hours(1);
    assert_eq!(subject.stores.upkeep.forget(later, later, false, 4).await.unwrap(), 4);
    let rest = page(subject, &org, Position::default(), ALL).await;
    assert!(rest.lost && rest.events.len() == count - 4);
    for (number, (place, _)) in all.iter().enumerate() {
        let is_behind = page(subject, &org, *place, ALL).await.lost;
        assert_eq!(is_behind, number < 3, "{place} is event {number}");
    }
    assert_eq!(
        subject.stores.upkeep.forget(later, later, false, 99).await.unwrap() as usize,
        count - 4
    );
    let nothing = page(subject, &org, all[1].0, ALL).await;
    assert!(nothing.lost && nothing.events.is_empty() && nothing.upto >= all[count - 1].0);
    assert!(!page(subject, &org, nothing.upto, ALL).await.lost, "told once");
}

/// A place that was never reached is another database's.
pub async fn places_ahead_are_said(subject: &Subject) {
    let org = org();
    let ahead = Position { tx: i64::MAX / 2, id: 7 };
    let nothing = page(subject, &org, ahead, ALL).await;
    assert!(nothing.lost && nothing.events.is_empty() && nothing.upto < ahead);
    create(&subject.stores, &[run(&org)]).await;
    read(subject, (&org, 1), nothing.upto, ALL).await;
    let nul = page(subject, "a\0b", Position::default(), ALL).await;
    assert!(nul.events.is_empty());
}

/// A run's own events by their numbers, and how many there were of those that are gone.
pub async fn of_one_run(subject: &Subject) {
    let (_, runs, _) = two_runs(subject).await;
    let told = subject.told(runs[0]).await.len() as i64;
    let feed =
        async |after, size| subject.stores.feed.run_feed(runs[0], after, size).await.unwrap();
    let all = feed(0, ALL).await;
    assert_eq!(all.last, told);
    assert_eq!(
        all.events.iter().map(|event| event.run_seq).collect::<Vec<_>>(),
        (1..=told).collect::<Vec<_>>()
    );
    let one = feed(2, BatchSize { events: 1, ..ALL }).await;
    assert_eq!((one.last, one.events[0].run_seq, one.events.len()), (told, 3, 1));
    assert!(feed(told, ALL).await.events.is_empty());
    let later = now() + Duration::hours(1);
    subject.stores.upkeep.forget(later, later, false, 99).await.unwrap();
    let gone = feed(0, ALL).await;
    assert_eq!((gone.last, gone.events.len()), (told, 0));
    let unknown = subject.stores.feed.run_feed(Uuid::new_v4(), 0, ALL).await.unwrap();
    assert_eq!((unknown.last, unknown.events.len()), (0, 0));
}
