//! What is kept for a while only. Candidates are looked up in a snapshot, and judged again by the
//! same predicate in the transaction that removes them.

use async_trait::async_trait;
use rusqlite::{Row, ToSql, Transaction, params};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    super::StoreResult,
    Store,
    changes::find_run,
    connection::Points,
    encode::{At, collect},
    outbox::run_event_at,
};
use crate::{
    events::model::{EventType, Place},
    store::retention::{FinalRuns, Purge, Purged, RetentionStore},
};

/// What makes a run of `runs AS r` one that was over before `?1`.
const OVER: &str = "r.status <> 'running' AND r.updated_at < ?1
     AND NOT EXISTS (SELECT 1 FROM run_work AS w
                     WHERE w.run_id = r.id AND w.state < 3 AND w.expires_at >= ?1)";
/// Whether a run of `runs AS r` has output.
const HAS_OUTPUT: &str = "(EXISTS (SELECT 1 FROM run_output AS o WHERE o.run_id = r.id)
     OR r.events <> '[]'
     OR EXISTS (SELECT 1 FROM run_hosts AS h
                WHERE h.run_id = r.id AND (h.log <> '' OR h.events <> '[]')))";
/// Uploads that are settled and belong to no known run.
const LOOSE: &str = "u.state <> 'pending' AND u.created_at < ?1
     AND NOT EXISTS (SELECT 1 FROM runs AS r WHERE r.id = u.run_id)";

#[async_trait]
impl RetentionStore for Store {
    async fn final_runs(
        &self,
        before: OffsetDateTime,
        after: Option<Place>,
        limit: i64,
        with_output: bool,
    ) -> StoreResult<FinalRuns> {
        self.db.read(move |tx| final_runs(tx, before, after, limit, with_output)).await
    }

    async fn purge_output(
        &self,
        runs: &[Uuid],
        before: OffsetDateTime,
        purge: Purge,
    ) -> StoreResult<Purged> {
        let runs = runs.to_vec();
        if purge == Purge::Count {
            return self.db.read(move |tx| count_outputs(tx, &runs, before)).await;
        }
        let points = Points("store.purge_output.commit", "store.purge_output.committed");
        self.db.write(points, move |tx| purge_output(tx, &runs, before)).await
    }

    async fn purge_runs(
        &self,
        runs: &[Uuid],
        before: OffsetDateTime,
        purge: Purge,
    ) -> StoreResult<Purged> {
        let runs = runs.to_vec();
        let Purge::Remove(now) = purge else {
            return self.db.read(move |tx| count_runs(tx, &runs, before)).await;
        };
        let points = Points("store.purge_runs.commit", "store.purge_runs.committed");
        self.db.write(points, move |tx| purge_runs(tx, &runs, before, now)).await
    }

    async fn purge_uploads(
        &self,
        before: OffsetDateTime,
        limit: i64,
        purge: Purge,
    ) -> StoreResult<Purged> {
        if purge == Purge::Count {
            let sql = format!("SELECT count(*) FROM uploads AS u WHERE {LOOSE}");
            let uploads = self.db.read(move |tx| count(tx, &sql, params![At(before)])).await?;
            return Ok(Purged { uploads, ..Purged::default() });
        }
        let sql = format!(
            "DELETE FROM uploads WHERE id IN
                 (SELECT u.id FROM uploads AS u WHERE {LOOSE} ORDER BY u.created_at LIMIT ?2)
             RETURNING object"
        );
        let points = Points("store.purge_uploads.commit", "store.purge_uploads.committed");
        let remove = move |tx: &Transaction<'_>| {
            let mut statement = tx.prepare_cached(&sql)?;
            let objects = collect(statement.query(params![At(before), limit])?, text)?;
            Ok(Purged { uploads: objects.len() as u64, objects, ..Purged::default() })
        };
        self.db.write(points, remove).await
    }

    async fn purge_audit(
        &self,
        before: OffsetDateTime,
        limit: i64,
        purge: Purge,
    ) -> StoreResult<Purged> {
        let audit = if purge == Purge::Count {
            let sql = "SELECT count(*) FROM audit WHERE at < ?1";
            self.db.read(move |tx| count(tx, sql, params![At(before)])).await?
        } else {
            let sql = "DELETE FROM audit WHERE id IN
                           (SELECT id FROM audit WHERE at < ?1 ORDER BY at LIMIT ?2)";
            let points = Points("store.purge_audit.commit", "store.purge_audit.committed");
            let remove = move |tx: &Transaction<'_>| {
                Ok(tx.prepare_cached(sql)?.execute(params![At(before), limit])? as u64)
            };
            self.db.write(points, remove).await?
        };
        Ok(Purged { audit, ..Purged::default() })
    }
}

fn count(tx: &Transaction<'_>, sql: &str, params: &[&dyn ToSql]) -> StoreResult<u64> {
    Ok(tx.prepare_cached(sql)?.query_row(params, |row| row.get(0))?)
}

fn text(row: &Row<'_>) -> StoreResult<String> {
    Ok(row.get(0)?)
}

fn final_runs(
    tx: &Transaction<'_>,
    before: OffsetDateTime,
    after: Option<Place>,
    limit: i64,
    with_output: bool,
) -> StoreResult<FinalRuns> {
    let sql = format!(
        "SELECT r.id, r.updated_at, (NOT ?5 OR {HAS_OUTPUT}) FROM runs AS r
         WHERE {OVER} AND (r.updated_at, r.id) > (?2, ?3)
         ORDER BY r.updated_at, r.id LIMIT ?4"
    );
    let Place { at, id } =
        after.unwrap_or(Place { at: OffsetDateTime::UNIX_EPOCH, id: Uuid::nil() });
    let mut statement = tx.prepare_cached(&sql)?;
    let rows = statement.query(params![At(before), At(at), id, limit, with_output])?;
    let row = |row: &Row<'_>| {
        Ok((Place { at: row.get::<_, At>(1)?.0, id: row.get(0)? }, row.get::<_, bool>(2)?))
    };
    let rows = collect(rows, row)?;
    let wanted = rows.iter().filter(|(_, wanted)| *wanted);
    Ok(FinalRuns {
        ids: wanted.map(|(place, _)| place.id).collect(),
        last: rows.last().map(|(place, _)| *place),
    })
}

/// Those of the runs that are over.
fn over(tx: &Transaction<'_>, runs: &[Uuid], before: OffsetDateTime) -> StoreResult<Vec<Uuid>> {
    let sql = format!("SELECT 1 FROM runs AS r WHERE {OVER} AND r.id = ?2");
    let mut statement = tx.prepare_cached(&sql)?;
    let mut over = Vec::with_capacity(runs.len());
    for id in runs {
        if statement.exists(params![At(before), id])? {
            over.push(*id);
        }
    }
    Ok(over)
}

fn count_outputs(
    tx: &Transaction<'_>,
    runs: &[Uuid],
    before: OffsetDateTime,
) -> StoreResult<Purged> {
    let sql = format!("SELECT count(*) FROM runs AS r WHERE r.id = ?1 AND {HAS_OUTPUT}");
    let mut purged = Purged::default();
    for id in over(tx, runs, before)? {
        purged.outputs += count(tx, &sql, params![id])?;
    }
    Ok(purged)
}

fn count_runs(tx: &Transaction<'_>, runs: &[Uuid], before: OffsetDateTime) -> StoreResult<Purged> {
    let mut purged = Purged::default();
    for id in over(tx, runs, before)? {
        purged.runs += 1;
        purged.run_hosts +=
            count(tx, "SELECT count(*) FROM run_hosts WHERE run_id = ?1", params![id])?;
        purged.uploads += count(tx, "SELECT count(*) FROM uploads WHERE run_id = ?1", params![id])?;
    }
    Ok(purged)
}

fn purge_output(
    tx: &Transaction<'_>,
    runs: &[Uuid],
    before: OffsetDateTime,
) -> StoreResult<Purged> {
    let over = over(tx, runs, before)?;
    for sql in [
        "DELETE FROM run_output WHERE run_id = ?1",
        "UPDATE run_work SET output_bytes = 0 WHERE run_id = ?1",
        "DELETE FROM satellite_progress WHERE run_id = ?1",
        "UPDATE run_hosts SET log = '', events = '[]' WHERE run_id = ?1",
        "UPDATE runs SET events = '[]' WHERE id = ?1",
    ] {
        let mut statement = tx.prepare_cached(sql)?;
        for id in &over {
            statement.execute([id])?;
        }
    }
    Ok(Purged { outputs: over.len() as u64, ..Purged::default() })
}

/// What goes with a run.
const SIDES: [&str; 6] =
    ["run_work", "run_output", "run_error", "run_dispatch", "run_sequence", "satellite_progress"];

fn purge_runs(
    tx: &Transaction<'_>,
    runs: &[Uuid],
    before: OffsetDateTime,
    now: OffsetDateTime,
) -> StoreResult<Purged> {
    let mut purged = Purged::default();
    for id in over(tx, runs, before)? {
        let Some(run) = find_run(tx, id)? else { continue };
        run_event_at(tx, &run, EventType::Delete, now)?;
        for table in SIDES {
            let sql = format!("DELETE FROM {table} WHERE run_id = ?1");
            tx.prepare_cached(&sql)?.execute([id])?;
        }
        let mut uploads =
            tx.prepare_cached("DELETE FROM uploads WHERE run_id = ?1 RETURNING object")?;
        let objects = collect(uploads.query([id])?, text)?;
        let hosts = tx.prepare_cached("DELETE FROM run_hosts WHERE run_id = ?1")?.execute([id])?;
        tx.prepare_cached("DELETE FROM runs WHERE id = ?1")?.execute([id])?;
        purged.add(Purged {
            runs: 1,
            run_hosts: hosts as u64,
            uploads: objects.len() as u64,
            objects,
            ..Purged::default()
        });
    }
    Ok(purged)
}
