//! The feed of events: in the order of their numbers, which is that of their commits, since there is
//! one writer. Reads only.

use async_trait::async_trait;
use rusqlite::{OptionalExtension as _, Transaction, params};
use uuid::Uuid;

use super::{
    super::StoreResult,
    Store,
    encode::collect,
    events::{bounds, event, with_output},
};
use crate::{
    events::model::{FeedPage, Position, RunFeedPage},
    store::events::{BatchSize, FeedStore},
};

#[async_trait]
impl FeedStore for Store {
    async fn feed(&self, org_id: &str, after: Position, size: BatchSize) -> StoreResult<FeedPage> {
        let org_id = org_id.to_owned();
        self.db.read(move |tx| of_org(tx, &org_id, after, size)).await
    }

    async fn feed_end(&self) -> StoreResult<Position> {
        self.db.read(end).await
    }

    async fn run_feed(
        &self,
        run_id: Uuid,
        after: i64,
        size: BatchSize,
    ) -> StoreResult<RunFeedPage> {
        self.db.read(move |tx| of_run(tx, run_id, after, size)).await
    }
}

/// Events of an organisation after a place.
fn of_org(
    tx: &Transaction<'_>,
    org_id: &str,
    after: Position,
    size: BatchSize,
) -> StoreResult<FeedPage> {
    let sql = with_output!(
        "SELECT * FROM outbox WHERE org_id = ?4 AND id > ?5 ORDER BY id LIMIT ?6",
        "id"
    );
    let end = end(tx)?;
    if after > end {
        return Ok(FeedPage { lost: true, upto: end, ..FeedPage::default() });
    }
    let horizon = "SELECT id > ?1 FROM outbox_horizon";
    let lost = tx.prepare_cached(horizon)?.query_row([after.id], |row| row.get(0))?;
    let [stdout, half, bytes] = bounds(size);
    let mut statement = tx.prepare_cached(sql)?;
    let rows = statement.query(params![stdout, half, bytes, org_id, after.id, size.events])?;
    let events = collect(rows, event)?;
    let events: Vec<_> =
        events.into_iter().map(|event| (Position { tx: 0, id: event.id }, event)).collect();
    let upto = events.last().map_or(end, |(position, _)| *position);
    Ok(FeedPage { events, upto, lost })
}

/// The place behind everything that the feed has now. Numbers are not given twice, even of events
/// that are kept no more.
fn end(tx: &Transaction<'_>) -> StoreResult<Position> {
    let sql = "SELECT seq FROM sqlite_sequence WHERE name = 'outbox'";
    let id = tx.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?;
    Ok(Position { tx: 0, id: id.unwrap_or(0) })
}

/// Events of a run after a number.
fn of_run(
    tx: &Transaction<'_>,
    run_id: Uuid,
    after: i64,
    size: BatchSize,
) -> StoreResult<RunFeedPage> {
    let sql = with_output!(
        "SELECT * FROM outbox WHERE run_id = ?4 AND run_seq > ?5 ORDER BY run_seq LIMIT ?6",
        "run_seq"
    );
    let last = "SELECT last FROM run_sequence WHERE run_id = ?1";
    let last = tx.prepare_cached(last)?.query_row([run_id], |row| row.get(0)).optional()?;
    let [stdout, half, bytes] = bounds(size);
    let mut statement = tx.prepare_cached(sql)?;
    let rows = statement.query(params![stdout, half, bytes, run_id, after, size.events])?;
    Ok(RunFeedPage { events: collect(rows, event)?, last: last.unwrap_or(0) })
}
