//! What is kept for a while only. Candidates are looked up without a lock, then locked and judged
//! again by the same predicate in the transaction that removes them.

use async_trait::async_trait;
use deadpool_postgres::{GenericClient, Transaction};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    PostgresStore,
    connection::{Param, Points, all, committed, one, run as execute},
    fault::Fault,
    outbox::Changes,
    rows::{self, run_columns},
};
use crate::{
    events::model::{EventType, Place},
    store::{
        StoreResult,
        retention::{FinalRuns, Purge, Purged, RetentionStore},
    },
};

/// What makes a run of `runs r` one that was over before `$1`.
macro_rules! over {
    () => {
        "r.status <> 'running' AND r.updated_at < $1
         AND NOT EXISTS (SELECT FROM run_work w
                         WHERE w.run_id = r.id AND w.state < 3 AND w.expires_at >= $1)"
    };
}

/// Whether a run of `runs r` has output. Empty documents take 8 bytes; the size of a large one is
/// known without reading it.
macro_rules! has_output {
    () => {
        "(EXISTS (SELECT FROM run_output o WHERE o.run_id = r.id)
          OR pg_column_size(r.events) > 16
          OR EXISTS (SELECT FROM run_hosts h WHERE h.run_id = r.id
                     AND (h.log <> '' OR pg_column_size(h.events) > 16)))"
    };
}

#[async_trait]
impl RetentionStore for PostgresStore {
    async fn final_runs(
        &self,
        before: OffsetDateTime,
        after: Option<Place>,
        limit: i64,
        with_output: bool,
    ) -> StoreResult<FinalRuns> {
        const PAGE: &str = concat!(
            "SELECT r.id, r.updated_at, (NOT $5 OR ",
            has_output!(),
            ") AS wanted FROM runs r WHERE ",
            over!(),
            " AND (r.updated_at, r.id) > ($2, $3) ORDER BY r.updated_at, r.id LIMIT $4"
        );
        let Place { at, id } =
            after.unwrap_or(Place { at: OffsetDateTime::UNIX_EPOCH, id: Uuid::nil() });
        self.retrying(|| async {
            let params: [Param<'_>; 5] = [&before, &at, &id, &limit, &with_output];
            let mut found = FinalRuns::default();
            for row in all(&self.client().await?, PAGE, &params).await? {
                let place = Place { at: row.try_get("updated_at")?, id: row.try_get("id")? };
                if row.try_get("wanted")? {
                    found.ids.push(place.id);
                }
                found.last = Some(place);
            }
            Ok(found)
        })
        .await
    }

    async fn purge_output(
        &self,
        runs: &[Uuid],
        before: OffsetDateTime,
        purge: Purge,
    ) -> StoreResult<Purged> {
        self.retrying(|| async {
            let mut client = self.client().await?;
            let Purge::Remove(_) = purge else { return count_outputs(&client, runs, before).await };
            let transaction = client.transaction().await?;
            let purged = purge_output(&transaction, runs, before).await?;
            let points = Points("store.purge_output.commit", "store.purge_output.committed");
            committed(transaction, points, purged).await
        })
        .await
    }

    async fn purge_runs(
        &self,
        runs: &[Uuid],
        before: OffsetDateTime,
        purge: Purge,
    ) -> StoreResult<Purged> {
        self.retrying(|| async {
            let mut client = self.client().await?;
            let Purge::Remove(now) = purge else { return count_runs(&client, runs, before).await };
            let transaction = client.transaction().await?;
            let purged = purge_runs(&transaction, runs, before, now).await?;
            let points = Points("store.purge_runs.commit", "store.purge_runs.committed");
            committed(transaction, points, purged).await
        })
        .await
    }

    async fn purge_uploads(
        &self,
        before: OffsetDateTime,
        limit: i64,
        purge: Purge,
    ) -> StoreResult<Purged> {
        const COUNT: &str = "
            SELECT count(*) FROM uploads u WHERE u.state <> 'pending' AND u.created_at < $1
                AND NOT EXISTS (SELECT FROM runs r WHERE r.id = u.run_id)";
        const REMOVE: &str = "
            DELETE FROM uploads WHERE id IN
                (SELECT u.id FROM uploads u WHERE u.state <> 'pending' AND u.created_at < $1
                     AND NOT EXISTS (SELECT FROM runs r WHERE r.id = u.run_id)
                 ORDER BY u.created_at LIMIT $2)
            RETURNING object";
        self.retrying(|| async {
            let client = self.client().await?;
            if purge == Purge::Count {
                let uploads = count(&client, COUNT, &[&before]).await?;
                return Ok(Purged { uploads, ..Purged::default() });
            }
            let objects = texts(&all(&client, REMOVE, &[&before, &limit]).await?)?;
            Ok(Purged { uploads: objects.len() as u64, objects, ..Purged::default() })
        })
        .await
    }

    async fn purge_audit(
        &self,
        before: OffsetDateTime,
        limit: i64,
        purge: Purge,
    ) -> StoreResult<Purged> {
        const COUNT: &str = "SELECT count(*) FROM audit WHERE at < $1";
        const REMOVE: &str = "
            DELETE FROM audit WHERE id IN
                (SELECT id FROM audit WHERE at < $1 ORDER BY at LIMIT $2)";
        self.retrying(|| async {
            let client = self.client().await?;
            let audit = match purge {
                Purge::Count => count(&client, COUNT, &[&before]).await?,
                Purge::Remove(_) => execute(&client, REMOVE, &[&before, &limit]).await?,
            };
            Ok(Purged { audit, ..Purged::default() })
        })
        .await
    }
}

async fn count(
    client: &impl GenericClient,
    text: &str,
    params: &[Param<'_>],
) -> Result<u64, Fault> {
    let row = one(client, text, params).await?;
    let row = row.ok_or_else(|| Fault::broken("a count without a row"))?;
    Ok(row.try_get::<_, i64>(0)?.cast_unsigned())
}

fn texts(rows: &[tokio_postgres::Row]) -> Result<Vec<String>, Fault> {
    Ok(rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?)
}

async fn count_outputs(
    client: &impl GenericClient,
    runs: &[Uuid],
    before: OffsetDateTime,
) -> Result<Purged, Fault> {
    const COUNT: &str = concat!(
        "SELECT count(*) FROM runs r WHERE r.id = ANY($2) AND ",
        over!(),
        " AND ",
        has_output!()
    );
    let outputs = count(client, COUNT, &[&before, &runs]).await?;
    Ok(Purged { outputs, ..Purged::default() })
}

async fn count_runs(
    client: &impl GenericClient,
    runs: &[Uuid],
    before: OffsetDateTime,
) -> Result<Purged, Fault> {
    const COUNT: &str = concat!(
        "SELECT count(*) AS runs,
                (SELECT count(*) FROM run_hosts h WHERE h.run_id = ANY($2)) AS run_hosts,
                (SELECT count(*) FROM uploads u WHERE u.run_id = ANY($2)) AS uploads
         FROM runs r WHERE r.id = ANY($2) AND ",
        over!()
    );
    let row = one(client, COUNT, &[&before, &runs]).await?;
    let row = row.ok_or_else(|| Fault::broken("a count without a row"))?;
    let number = |name| Ok::<_, Fault>(row.try_get::<_, i64>(name)?.cast_unsigned());
    Ok(Purged {
        runs: number("runs")?,
        run_hosts: number("run_hosts")?,
        uploads: number("uploads")?,
        ..Purged::default()
    })
}

async fn purge_output(
    transaction: &Transaction<'_>,
    runs: &[Uuid],
    before: OffsetDateTime,
) -> Result<Purged, Fault> {
    const LOCK: &str = concat!(
        "SELECT r.id FROM runs r WHERE r.id = ANY($2) AND ",
        over!(),
        " ORDER BY r.id FOR NO KEY UPDATE OF r"
    );
    const CHUNKS: &str = "DELETE FROM run_output WHERE run_id = ANY($1)";
    const LENGTHS: &str =
        "UPDATE run_work SET output_bytes = 0 WHERE run_id = ANY($1) AND output_bytes <> 0";
    const PROGRESS: &str = "DELETE FROM satellite_progress WHERE run_id = ANY($1)";
    const LOGS: &str = "
        UPDATE run_hosts SET log = '', events = '[]'
        WHERE run_id = ANY($1) AND (log <> '' OR pg_column_size(events) > 16)";
    const EVENTS: &str =
        "UPDATE runs SET events = '[]' WHERE id = ANY($1) AND pg_column_size(events) > 16";
    let locked = all(transaction, LOCK, &[&before, &runs]).await?;
    let ids = locked.iter().map(|row| row.try_get(0)).collect::<Result<Vec<Uuid>, _>>()?;
    for text in [CHUNKS, LENGTHS, PROGRESS, LOGS, EVENTS] {
        execute(transaction, text, &[&ids]).await?;
    }
    Ok(Purged { outputs: ids.len() as u64, ..Purged::default() })
}

async fn purge_runs(
    transaction: &Transaction<'_>,
    runs: &[Uuid],
    before: OffsetDateTime,
    now: OffsetDateTime,
) -> Result<Purged, Fault> {
    const LOCK: &str = concat!(
        "SELECT ",
        run_columns!(),
        " FROM runs r WHERE r.id = ANY($2) AND ",
        over!(),
        " ORDER BY r.id FOR UPDATE OF r"
    );
    const UPLOADS: &str = "DELETE FROM uploads WHERE run_id = ANY($1) RETURNING object";
    // What refers to a run goes before it.
    const SIDES: [&str; 6] = [
        "DELETE FROM run_work WHERE run_id = ANY($1)",
        "DELETE FROM run_output WHERE run_id = ANY($1)",
        "DELETE FROM run_error WHERE run_id = ANY($1)",
        "DELETE FROM run_dispatch WHERE run_id = ANY($1)",
        "DELETE FROM run_sequence WHERE run_id = ANY($1)",
        "DELETE FROM satellite_progress WHERE run_id = ANY($1)",
    ];
    const HOSTS: &str = "DELETE FROM run_hosts WHERE run_id = ANY($1)";
    const RUNS: &str = "DELETE FROM runs WHERE id = ANY($1)";
    let locked = all(transaction, LOCK, &[&before, &runs]).await?;
    let locked = locked.iter().map(rows::run).collect::<Result<Vec<_>, _>>()?;
    let ids: Vec<Uuid> = locked.iter().map(|run| run.id).collect();
    let mut changes = Changes::at(now);
    locked.iter().for_each(|run| changes.run(EventType::Delete, run));
    changes.write(transaction).await?;
    for text in SIDES {
        execute(transaction, text, &[&ids]).await?;
    }
    let objects = texts(&all(transaction, UPLOADS, &[&ids]).await?)?;
    let run_hosts = execute(transaction, HOSTS, &[&ids]).await?;
    let runs = execute(transaction, RUNS, &[&ids]).await?;
    let uploads = objects.len() as u64;
    Ok(Purged { runs, run_hosts, uploads, objects, ..Purged::default() })
}
