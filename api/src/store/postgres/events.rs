//! Events on their way to consumers: read in order, marked under the lease, written again on demand.

use async_trait::async_trait;
use deadpool_postgres::Transaction;
use dispatcher_wire::RunStatus;
use time::{OffsetDateTime, macros::datetime};
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    PostgresStore,
    connection::{Param, Points, all, committed, one, run as execute},
    fault::Fault,
    outbox::Changes,
    rows::{self, holdable, run_columns},
};
use crate::{
    events::model::{Backlog, Entity, EventType, Place, ReadFilter, ReadPage, Stdout, StoredEvent},
    execution::excerpt,
    store::{
        StoreResult,
        events::{BatchSize, COUNTED_AT_MOST, EventStore, Fence, OUTBOX_LEASE},
    },
};

/// Later than any run was made.
const LATEST: OffsetDateTime = datetime!(9999-12-31 00:00 UTC);
/// The most hosts whose events are written in one commit, unless one run has more.
const HOSTS_AT_ONCE: i64 = 1_000;

/// Rows of the outbox that the inner statement gives, in that order, with the output of their hosts: as
/// many as [`bounds`] allow, `$1` to `$3`, and at least one. [`event`] reads them.
macro_rules! with_output {
    ($inner:expr, $order:literal, $of:literal) => {
        // The output is not read by the inner statements: its length is known without.
        concat!(
            "SELECT w.tx, w.id, w.run_id, w.run_seq, w.entity, w.entity_id, w.event_type, w.org_id,
                    w.service, w.status, w.payload, w.created_at, w.length,
                    CASE WHEN w.length <= $1::bigint THEN convert_to(w.log, 'UTF8')
                         ELSE substr(convert_to(w.log, 'UTF8'), 1, $2::bigint::int) END AS head,
                    CASE WHEN w.length > $1::bigint
                         THEN substr(convert_to(w.log, 'UTF8'),
                                     (w.length - $2::bigint + 1)::int) END AS tail
             FROM (SELECT o.*, h.log, coalesce(octet_length(h.log), 0) AS length,
                          sum(least(coalesce(octet_length(h.log), 0), $1::bigint))
                              OVER (ORDER BY ",
            $order,
            ") AS sum FROM (",
            $inner,
            ") o LEFT JOIN run_hosts h ON o.entity = 'run_host' AND h.id = o.entity_id) w
             WHERE w.sum - least(w.length, $1::bigint) <= $3::bigint ORDER BY ",
            $of
        )
    };
}
pub(super) use with_output;

#[async_trait]
impl EventStore for PostgresStore {
    async fn unpublished(&self, size: BatchSize) -> StoreResult<Vec<StoredEvent>> {
        const READ: &str = with_output!(
            "SELECT * FROM outbox WHERE published_at IS NULL ORDER BY id LIMIT $4",
            "o.id",
            "w.id"
        );
        let [stdout, half, bytes] = bounds(size);
        self.retrying(|| async {
            let params: [Param<'_>; 4] = [&stdout, &half, &bytes, &size.events];
            let rows = all(&self.client().await?, READ, &params).await?;
            rows.iter().map(event).collect()
        })
        .await
    }

    async fn mark_published(
        &self,
        ids: &[i64],
        fence: Fence,
        at: OffsetDateTime,
    ) -> StoreResult<bool> {
        const MARK: &str = "
            UPDATE outbox SET published_at = $5
            WHERE id = ANY($1) AND EXISTS
                (SELECT FROM leases WHERE name = $2 AND holder = $3 AND epoch = $4)";
        self.retrying(|| async {
            let params: [Param<'_>; 5] = [&ids, &OUTBOX_LEASE, &fence.holder, &fence.epoch, &at];
            let marked = execute(&self.client().await?, MARK, &params).await?;
            Ok(marked > 0 || ids.is_empty())
        })
        .await
    }

    async fn backlog(&self, now: OffsetDateTime) -> StoreResult<Backlog> {
        const COUNT: &str = "
            SELECT count(*) AS waiting,
                   (SELECT created_at FROM outbox WHERE published_at IS NULL ORDER BY id LIMIT 1)
                       AS oldest
            FROM (SELECT FROM outbox WHERE published_at IS NULL LIMIT $1) w";
        self.retrying(|| async {
            let row = one(&self.client().await?, COUNT, &[&COUNTED_AT_MOST]).await?;
            let row = row.ok_or_else(|| Fault::broken("a count without a row"))?;
            let oldest: Option<OffsetDateTime> = row.try_get("oldest")?;
            let age = oldest.map_or(0.0, |oldest| (now - oldest).as_seconds_f64());
            let waiting = row.try_get::<_, i64>("waiting")?.cast_unsigned();
            Ok(Backlog { waiting, oldest_seconds: age.max(0.0) })
        })
        .await
    }

    async fn write_reads(
        &self,
        filter: &ReadFilter,
        after: Option<Place>,
        limit: i64,
        now: OffsetDateTime,
    ) -> StoreResult<ReadPage> {
        let texts = [filter.org_id.as_deref(), filter.service.as_deref()];
        if texts.into_iter().flatten().any(|text| !holdable(text)) {
            return Ok(ReadPage::default());
        }
        self.retrying(|| async {
            let mut client = self.client().await?;
            let transaction = client.transaction().await?;
            let page = write_reads(&transaction, filter, after, limit, now).await?;
            let points = Points("store.reads.commit", "store.reads.committed");
            committed(transaction, points, page).await
        })
        .await
    }
}

/// The limits of [`with_output`]: of one output, of its ends, of all.
pub(super) fn bounds(size: BatchSize) -> [i64; 3] {
    let number = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
    let largest = i64::from(i32::MAX);
    [
        number(size.stdout).min(largest),
        number(excerpt::half(size.stdout)).min(largest),
        number(size.bytes),
    ]
}

/// The event of a row of [`with_output`].
pub(super) fn event(row: &Row) -> Result<StoredEvent, Fault> {
    let entity: &str = row.try_get("entity")?;
    let total: i32 = row.try_get("length")?;
    let unknown = || Fault::broken(format!("there are no events of {entity}"));
    Ok(StoredEvent {
        id: row.try_get("id")?,
        run_id: row.try_get("run_id")?,
        run_seq: row.try_get("run_seq")?,
        entity: Entity::parse(entity).ok_or_else(unknown)?,
        entity_id: row.try_get("entity_id")?,
        event_type: row.try_get("event_type")?,
        org_id: row.try_get("org_id")?,
        service: row.try_get("service")?,
        status: row.try_get("status")?,
        payload: row.try_get("payload")?,
        created_at: row.try_get("created_at")?,
        stdout: Stdout {
            total: i64::from(total).cast_unsigned(),
            head: row.try_get::<_, Option<_>>("head")?.unwrap_or_default(),
            tail: row.try_get::<_, Option<_>>("tail")?.unwrap_or_default(),
        },
    })
}

async fn write_reads(
    transaction: &Transaction<'_>,
    filter: &ReadFilter,
    after: Option<Place>,
    limit: i64,
    now: OffsetDateTime,
) -> Result<ReadPage, Fault> {
    const LOCKED: &str = concat!(
        "SELECT ",
        run_columns!(),
        " FROM runs r WHERE r.id = ANY($1)
              AND NOT EXISTS (SELECT FROM run_dispatch d WHERE d.run_id = r.id)
          ORDER BY r.id FOR NO KEY UPDATE OF r"
    );
    let (places, more) = chosen(transaction, filter, after, limit).await?;
    let ids: Vec<Uuid> = places.iter().map(|place| place.id).collect();
    let runs = all(transaction, LOCKED, &[&ids]).await?;
    let runs = runs.iter().map(rows::run).collect::<Result<Vec<_>, _>>()?;
    let hosts = rows::hosts_of(transaction, &ids).await?;
    let mut changes = Changes::at(now);
    let mut page = ReadPage { next: places.last().copied().filter(|_| more), ..Default::default() };
    for run in &runs {
        changes.run(EventType::Read, run);
        page.runs += 1;
        let of_run = |host: &&crate::runs::model::RunHostRow| host.run_id == run.id;
        for host in hosts.iter().filter(of_run) {
            changes.host(EventType::Read, run, host);
            page.run_hosts += 1;
        }
    }
    changes.write(transaction).await?;
    Ok(page)
}

/// The next runs of a filter, and whether there may be more.
async fn chosen(
    transaction: &Transaction<'_>,
    filter: &ReadFilter,
    after: Option<Place>,
    limit: i64,
) -> Result<(Vec<Place>, bool), Fault> {
    const OF_ORG: &str = "
        SELECT r.id, r.created_at, (SELECT count(*) FROM run_hosts h WHERE h.run_id = r.id) AS hosts
        FROM runs r
        WHERE r.org_id = $7 AND r.created_at <= $4 AND (r.created_at < $4 OR r.id > $5)
          AND ($1::text IS NULL OR r.service = $1) AND ($2::text IS NULL OR r.status::text = $2)
          AND r.updated_at >= $3
          AND NOT EXISTS (SELECT FROM run_dispatch d WHERE d.run_id = r.id)
        ORDER BY r.created_at DESC, r.id LIMIT $6";
    const OF_ALL: &str = "
        SELECT r.id, r.created_at, (SELECT count(*) FROM run_hosts h WHERE h.run_id = r.id) AS hosts
        FROM runs r
        WHERE r.id > $4 AND ($1::text IS NULL OR r.service = $1)
          AND ($2::text IS NULL OR r.status::text = $2) AND r.updated_at >= $3
          AND NOT EXISTS (SELECT FROM run_dispatch d WHERE d.run_id = r.id)
        ORDER BY r.id LIMIT $5";
    let ReadFilter { org_id, service, status, since } = filter;
    let status = status.map(RunStatus::as_str);
    let since = since.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let Place { at, id } = after.unwrap_or(Place { at: LATEST, id: Uuid::nil() });
    let found = match org_id {
        Some(org) => {
            let params: [Param<'_>; 7] = [service, &status, &since, &at, &id, &limit, org];
            all(transaction, OF_ORG, &params).await?
        }
        None => {
            let params: [Param<'_>; 5] = [service, &status, &since, &id, &limit];
            all(transaction, OF_ALL, &params).await?
        }
    };
    let (mut places, mut hosts) = (Vec::new(), 0);
    for row in &found {
        hosts += row.try_get::<_, i64>("hosts")?;
        if hosts > HOSTS_AT_ONCE && !places.is_empty() {
            return Ok((places, true));
        }
        places.push(Place { at: row.try_get("created_at")?, id: row.try_get("id")? });
    }
    let full = i64::try_from(found.len()).is_ok_and(|length| length == limit);
    Ok((places, full))
}
