//! The feed of events: for one organisation in the order in which transactions became visible to all,
//! for one run in the order of its numbers. Reads only.
//!
//! A number of the outbox is taken before the commit, so that a higher one may be seen first. Hence
//! nothing is read of a transaction that is not older than all that still write.

use async_trait::async_trait;
use deadpool_postgres::GenericClient;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    PostgresStore,
    connection::{Param, all, one},
    events::{bounds, event, with_output},
    fault::Fault,
    rows::holdable,
};
use crate::{
    events::model::{FeedPage, Position, RunFeedPage},
    store::{
        StoreResult,
        events::{BatchSize, FeedStore},
    },
};

#[async_trait]
impl FeedStore for PostgresStore {
    async fn feed(&self, org_id: &str, after: Position, size: BatchSize) -> StoreResult<FeedPage> {
        self.retrying(|| async { of_org(&self.client().await?, org_id, after, size).await }).await
    }

    async fn feed_end(&self) -> StoreResult<Position> {
        self.retrying(|| async { end(&self.client().await?).await }).await
    }

    async fn run_feed(
        &self,
        run_id: Uuid,
        after: i64,
        size: BatchSize,
    ) -> StoreResult<RunFeedPage> {
        self.retrying(|| async { of_run(&self.client().await?, run_id, after, size).await }).await
    }
}

/// Events of an organisation after a place.
async fn of_org(
    client: &impl GenericClient,
    org_id: &str,
    after: Position,
    size: BatchSize,
) -> Result<FeedPage, Fault> {
    const READ: &str = concat!(
        "SELECT z.running, (z.tx, z.id) > ($5::bigint, $6::bigint) AS lost, e.*
         FROM (SELECT tx, id, pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS running
               FROM outbox_horizon) z
         LEFT JOIN LATERAL (",
        with_output!(
            "SELECT * FROM outbox
             WHERE org_id = $4 AND (tx, id) > ($5::bigint, $6::bigint) AND tx < z.running
             ORDER BY tx, id LIMIT $7",
            "o.tx, o.id",
            "w.tx, w.id"
        ),
        ") e ON true ORDER BY e.tx, e.id"
    );
    if !holdable(org_id) {
        return Ok(FeedPage { upto: after, ..FeedPage::default() });
    }
    let [stdout, half, bytes] = bounds(size);
    let params: [Param<'_>; 7] =
        [&stdout, &half, &bytes, &org_id, &after.tx, &after.id, &size.events];
    let rows = all(client, READ, &params).await?;
    let mut page = FeedPage { upto: after, ..FeedPage::default() };
    if let Some(first) = rows.first() {
        page.lost = first.try_get("lost")?;
        let running = first.try_get("running")?;
        if after.tx >= running {
            // Nothing was read there yet: the place is another database's, or of one that was lost.
            return Ok(FeedPage { lost: true, upto: before(running), ..page });
        }
        // Where there is nothing, everything of the transactions that are over was read.
        page.upto = before(running);
    }
    for row in &rows {
        if let Some(position) = position(row)? {
            page.events.push((position, event(row)?));
            page.upto = position;
        }
    }
    Ok(page)
}

/// The place behind everything that the feed has now.
async fn end(client: &impl GenericClient) -> Result<Position, Fault> {
    const END: &str = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint";
    let row = one(client, END, &[]).await?;
    let row = row.ok_or_else(|| Fault::broken("a snapshot without a row"))?;
    Ok(before(row.try_get(0)?))
}

/// Events of a run after a number.
async fn of_run(
    client: &impl GenericClient,
    run_id: Uuid,
    after: i64,
    size: BatchSize,
) -> Result<RunFeedPage, Fault> {
    const READ: &str = concat!(
        "SELECT z.last, e.*
         FROM (SELECT coalesce((SELECT last FROM run_sequence WHERE run_id = $4), 0) AS last) z
         LEFT JOIN LATERAL (",
        with_output!(
            "SELECT * FROM outbox WHERE run_id = $4 AND run_seq > $5 ORDER BY run_seq LIMIT $6",
            "o.run_seq",
            "w.run_seq"
        ),
        ") e ON true ORDER BY e.run_seq"
    );
    let [stdout, half, bytes] = bounds(size);
    let params: [Param<'_>; 6] = [&stdout, &half, &bytes, &run_id, &after, &size.events];
    let rows = all(client, READ, &params).await?;
    let mut page = RunFeedPage::default();
    for row in &rows {
        page.last = row.try_get("last")?;
        if position(row)?.is_some() {
            page.events.push(event(row)?);
        }
    }
    Ok(page)
}

/// Behind everything that transactions before this one have written.
const fn before(running: i64) -> Position {
    Position { tx: running - 1, id: i64::MAX }
}

/// The place of a row; none where the statement had nothing but its bounds.
fn position(row: &Row) -> Result<Option<Position>, Fault> {
    let id: Option<i64> = row.try_get("id")?;
    let tx: Option<i64> = row.try_get("tx")?;
    Ok(id.zip(tx).map(|(id, tx)| Position { tx, id }))
}
