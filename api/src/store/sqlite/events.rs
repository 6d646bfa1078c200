//! Events on their way to consumers: read in order, marked under the lease, written again on demand.

use async_trait::async_trait;
use rusqlite::{Row, Transaction, params};
use time::{OffsetDateTime, macros::datetime};
use uuid::Uuid;

use super::{
    super::{StoreError, StoreResult},
    Store,
    changes::{find_run, hosts_of},
    connection::Points,
    encode::{At, State, collect, from_json},
    outbox::{host_events_at, run_event_at},
};
use crate::{
    events::model::{Backlog, Entity, EventType, Place, ReadFilter, ReadPage, Stdout, StoredEvent},
    execution::excerpt,
    store::events::{BatchSize, COUNTED_AT_MOST, EventStore, Fence, OUTBOX_LEASE},
};

/// Later than any run was made.
const LATEST: OffsetDateTime = datetime!(9999-12-31 00:00 UTC);
/// The most hosts whose events are written in one commit, unless one run has more.
const HOSTS_AT_ONCE: i64 = 1_000;

#[async_trait]
impl EventStore for Store {
    async fn unpublished(&self, size: BatchSize) -> StoreResult<Vec<StoredEvent>> {
        self.db.read(move |tx| unpublished(tx, size)).await
    }

    async fn mark_published(
        &self,
        ids: &[i64],
        fence: Fence,
        at: OffsetDateTime,
    ) -> StoreResult<bool> {
        let ids = ids.to_vec();
        let points = Points("store.published.commit", "store.published.committed");
        self.db.write(points, move |tx| mark(tx, &ids, fence, at)).await
    }

    async fn backlog(&self, now: OffsetDateTime) -> StoreResult<Backlog> {
        let sql = "
            SELECT (SELECT count(*) FROM
                        (SELECT 1 FROM outbox WHERE published_at IS NULL LIMIT ?1)),
                   (SELECT created_at FROM outbox WHERE published_at IS NULL ORDER BY id LIMIT 1)";
        let read = move |tx: &Transaction<'_>| {
            let row = |row: &Row<'_>| Ok((row.get(0)?, row.get::<_, Option<At>>(1)?));
            let (waiting, oldest) = tx.prepare_cached(sql)?.query_row([COUNTED_AT_MOST], row)?;
            let age = oldest.map_or(0.0, |oldest| (now - oldest.0).as_seconds_f64());
            Ok(Backlog { waiting, oldest_seconds: age.max(0.0) })
        };
        self.db.read(read).await
    }

    async fn write_reads(
        &self,
        filter: &ReadFilter,
        after: Option<Place>,
        limit: i64,
        now: OffsetDateTime,
    ) -> StoreResult<ReadPage> {
        let filter = filter.clone();
        let points = Points("store.reads.commit", "store.reads.committed");
        self.db.write(points, move |tx| write_reads(tx, &filter, after, limit, now)).await
    }
}

/// Rows of the outbox that the inner statement gives, by that order, with the output of their hosts: as
/// many as [`bounds`] allow, `?1` to `?3`, and at least one. [`event`] reads them.
macro_rules! with_output {
    ($inner:literal, $order:literal) => {
        concat!(
            "SELECT w.id, w.run_id, w.run_seq, w.entity, w.entity_id, w.event_type, w.org_id,
                    w.service, w.status, w.payload, w.created_at, w.length,
                    CASE WHEN w.length <= ?1 THEN CAST(w.log AS BLOB)
                         ELSE substr(CAST(w.log AS BLOB), 1, ?2) END,
                    CASE WHEN w.length > ?1 THEN substr(CAST(w.log AS BLOB), w.length - ?2 + 1) END
             FROM (SELECT o.*, h.log, coalesce(octet_length(h.log), 0) AS length,
                          sum(min(coalesce(octet_length(h.log), 0), ?1)) OVER (ORDER BY o.",
            $order,
            ") AS sum FROM (",
            $inner,
            ") AS o LEFT JOIN run_hosts AS h ON o.entity = 'run_host' AND h.id = o.entity_id) AS w
             WHERE w.sum - min(w.length, ?1) <= ?3 ORDER BY w.",
            $order
        )
    };
}
pub(super) use with_output;

/// The limits of [`with_output`]: of one output, of its ends, of all.
pub(super) fn bounds(size: BatchSize) -> [i64; 3] {
    [size.stdout, excerpt::half(size.stdout), size.bytes]
        .map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX))
}

fn unpublished(tx: &Transaction<'_>, size: BatchSize) -> StoreResult<Vec<StoredEvent>> {
    let sql =
        with_output!("SELECT * FROM outbox WHERE published_at IS NULL ORDER BY id LIMIT ?4", "id");
    let [stdout, half, bytes] = bounds(size);
    let mut statement = tx.prepare_cached(sql)?;
    collect(statement.query(params![stdout, half, bytes, size.events])?, event)
}

/// The event of a row of [`with_output`].
pub(super) fn event(row: &Row<'_>) -> StoreResult<StoredEvent> {
    let entity: String = row.get(3)?;
    let unknown = || StoreError::Failed(format!("there are no events of {entity}"));
    Ok(StoredEvent {
        id: row.get(0)?,
        run_id: row.get(1)?,
        run_seq: row.get(2)?,
        entity: Entity::parse(&entity).ok_or_else(unknown)?,
        entity_id: row.get(4)?,
        event_type: row.get(5)?,
        org_id: row.get(6)?,
        service: row.get(7)?,
        status: row.get(8)?,
        payload: from_json(row.get_ref(9)?.as_str().map_err(rusqlite::Error::from)?)?,
        created_at: row.get::<_, At>(10)?.0,
        stdout: Stdout {
            total: row.get(11)?,
            head: row.get::<_, Option<_>>(12)?.unwrap_or_default(),
            tail: row.get::<_, Option<_>>(13)?.unwrap_or_default(),
        },
    })
}

fn mark(tx: &Transaction<'_>, ids: &[i64], fence: Fence, at: OffsetDateTime) -> StoreResult<bool> {
    let mut mark = tx.prepare_cached(
        "UPDATE outbox SET published_at = ?5
         WHERE id = ?1 AND EXISTS
             (SELECT 1 FROM leases WHERE name = ?2 AND holder = ?3 AND epoch = ?4)",
    )?;
    let mut marked = 0;
    for id in ids {
        marked += mark.execute(params![id, OUTBOX_LEASE, fence.holder, fence.epoch, At(at)])?;
    }
    Ok(marked > 0 || ids.is_empty())
}

fn write_reads(
    tx: &Transaction<'_>,
    filter: &ReadFilter,
    after: Option<Place>,
    limit: i64,
    now: OffsetDateTime,
) -> StoreResult<ReadPage> {
    let (places, more) = chosen(tx, filter, after, limit)?;
    let mut page = ReadPage { next: places.last().copied().filter(|_| more), ..Default::default() };
    for place in &places {
        let Some(run) = find_run(tx, place.id)? else { continue };
        let hosts = hosts_of(tx, run.id)?;
        run_event_at(tx, &run, EventType::Read, now)?;
        host_events_at(tx, &run, &hosts, EventType::Read, now)?;
        page.runs += 1;
        page.run_hosts += hosts.len() as u64;
    }
    Ok(page)
}

/// The next runs of a filter, and whether there may be more.
fn chosen(
    tx: &Transaction<'_>,
    filter: &ReadFilter,
    after: Option<Place>,
    limit: i64,
) -> StoreResult<(Vec<Place>, bool)> {
    let (which, order) = if filter.org_id.is_some() {
        let from = "r.org_id = ?7 AND r.created_at <= ?4 AND (r.created_at < ?4 OR r.id > ?5)";
        (from, "r.created_at DESC, r.id")
    } else {
        // The parameters are the same for both.
        ("r.id > ?5 AND ?4 IS NOT NULL AND ?7 IS NULL", "r.id")
    };
    let sql = format!(
        "SELECT r.id, r.created_at, (SELECT count(*) FROM run_hosts AS h WHERE h.run_id = r.id)
         FROM runs AS r
         WHERE {which} AND (?1 IS NULL OR r.service = ?1) AND (?2 IS NULL OR r.status = ?2)
           AND r.updated_at >= ?3
           AND NOT EXISTS (SELECT 1 FROM run_dispatch AS d WHERE d.run_id = r.id)
         ORDER BY {order} LIMIT ?6"
    );
    let Place { at, id } = after.unwrap_or(Place { at: LATEST, id: Uuid::nil() });
    let since = filter.since.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let status = filter.status.map(State);
    let mut statement = tx.prepare_cached(&sql)?;
    let found = statement.query(params![
        filter.service,
        status,
        At(since),
        At(at),
        id,
        limit,
        filter.org_id
    ])?;
    let row = |row: &Row<'_>| {
        Ok((Place { at: row.get::<_, At>(1)?.0, id: row.get(0)? }, row.get::<_, i64>(2)?))
    };
    let found = collect(found, row)?;
    let full = i64::try_from(found.len()).is_ok_and(|length| length == limit);
    let (mut places, mut hosts) = (Vec::new(), 0);
    for (place, own) in found {
        hosts += own;
        if hosts > HOSTS_AT_ONCE && !places.is_empty() {
            return Ok((places, true));
        }
        places.push(place);
    }
    Ok((places, full))
}
