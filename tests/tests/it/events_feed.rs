//! The feed on PostgreSQL, where transactions overlap: nothing appears behind a reader; a database
//! that was restored elsewhere has all of it.

use dispatcher_api::{
    events::model::Position,
    store::{Stores, events::BatchSize, postgres::PostgresStore},
};
use dispatcher_tests::{
    postgres::Database,
    process::PATIENCE,
    service::{ORG, new_run},
};
use tokio::time::Instant;
use uuid::Uuid;

const ALL: BatchSize = BatchSize { events: 1_000, stdout: 1_000, bytes: 1 << 20 };

/// Reads until there are so many, and says where that was.
async fn read(stores: &Stores, after: Position, count: usize) -> (Vec<Uuid>, Position) {
    let (mut runs, mut at, begun) = (Vec::new(), after, Instant::now());
    while runs.len() < count {
        assert!(begun.elapsed() < PATIENCE, "{} of {count}", runs.len());
        let page = stores.feed.feed(ORG, at, ALL).await.unwrap();
        runs.extend(page.events.iter().map(|(_, event)| event.run_id));
        at = page.upto;
    }
    (runs, at)
}

async fn created(stores: &Stores) -> Uuid {
    let run = new_run(Uuid::new_v4());
    let id = run.id;
    stores.runs.create(&[run], None, &[]).await.unwrap();
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_committed_late_is_not_missed() {
    let database = Database::migrated().await.unwrap();
    let stores = database.stores().await.unwrap();
    let mut client = database.client().await.unwrap();
    let late = Uuid::new_v4();
    let transaction = client.transaction().await.unwrap();
    let insert =
        "INSERT INTO outbox (run_id, run_seq, entity, entity_id, event_type, org_id, service,
                                      status, payload, created_at)
                  VALUES ($1, 1, 'run', $1, 'create', $2, 's', 'running', '{}', now())";
    transaction.execute(insert, &[&late, &ORG]).await.unwrap();
    let early = created(&stores).await;
    // It has a higher number than one that nobody can see yet.
    let before = stores.feed.feed(ORG, Position::default(), ALL).await.unwrap();
    assert!(before.events.is_empty(), "read past a transaction that goes on");
    let end = stores.feed.feed_end().await.unwrap();
    transaction.commit().await.unwrap();
    for from in [Position::default(), before.upto, end] {
        let (runs, at) = read(&stores, from, 2).await;
        assert_eq!(runs, [late, early]);
        assert!(stores.feed.feed(ORG, at, ALL).await.unwrap().events.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_and_a_reader_that_never_stops() {
    let database = Database::migrated().await.unwrap();
    let stores = database.stores().await.unwrap();
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let stores = stores.clone();
            tokio::spawn(async move {
                let mut own = Vec::new();
                for _ in 0..25 {
                    own.push(created(&stores).await);
                }
                own
            })
        })
        .collect();
    let (mut read, _) = read(&stores, Position::default(), 200).await;
    let mut written = Vec::new();
    for writer in writers {
        written.extend(writer.await.unwrap());
    }
    read.sort_unstable();
    written.sort_unstable();
    assert_eq!(read, written, "each once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_restored_elsewhere_shows_what_it_has() {
    let database = Database::migrated().await.unwrap();
    let stores = database.stores().await.unwrap();
    let client = database.client().await.unwrap();
    let old = created(&stores).await;
    // As if the server it comes from had counted further than this one.
    let far = "UPDATE outbox SET tx = tx + 1000000000; UPDATE outbox_horizon SET tx = 1000000000";
    client.batch_execute(far).await.unwrap();
    assert!(stores.feed.feed(ORG, Position::default(), ALL).await.unwrap().events.is_empty());
    PostgresStore::migrate(&database.config).await.unwrap();
    let new = created(&stores).await;
    PostgresStore::migrate(&database.config).await.unwrap();
    assert_eq!(read(&stores, Position::default(), 2).await.0, [old, new]);
}
