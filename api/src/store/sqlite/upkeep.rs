//! [`UpkeepStore`] on SQLite: what is due is looked up in a snapshot, and judged again in the
//! transaction that changes it, so that the writer is held only for the changes.

use async_trait::async_trait;
use dispatcher_wire::{RunStatus, event::error_code};
use rusqlite::{Transaction, params};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    super::{Expired, StoreResult, UpkeepStore},
    Store,
    changes::{self, end_running_hosts, find_run, set_error, set_status, take_as_sent},
    connection::Points,
    encode::{At, collect},
};
use crate::runs::model::RunRow;

#[async_trait]
impl UpkeepStore for Store {
    async fn ping(&self) -> StoreResult<()> {
        let ask = |tx: &Transaction<'_>| {
            tx.prepare_cached("SELECT 1")?.query_row([], |_| Ok(()))?;
            Ok(())
        };
        self.db.read(ask).await
    }

    async fn expire(&self, now: OffsetDateTime, limit: i64) -> StoreResult<Expired> {
        let due = self.db.read(move |tx| due(tx, now, limit)).await?;
        if due.is_empty() {
            return Ok(Expired::default());
        }
        let points = Points("store.expire.commit", "store.expire.committed");
        self.db.write(points, move |tx| expire(tx, &due, now)).await
    }

    async fn forget(
        &self,
        now: OffsetDateTime,
        outbox_before: OffsetDateTime,
        published_only: bool,
        limit: i64,
    ) -> StoreResult<u64> {
        let keys = "DELETE FROM idempotency WHERE rowid IN
                        (SELECT rowid FROM idempotency WHERE expires_at <= ?1 LIMIT ?2)";
        let forgotten = "DELETE FROM outbox WHERE id IN
                          (SELECT id FROM outbox WHERE created_at < ?1
                               AND (NOT ?3 OR published_at IS NOT NULL)
                           ORDER BY id LIMIT ?2) RETURNING id";
        // How far it went, so that readers of the feed learn what they have missed.
        let noted = "UPDATE outbox_horizon SET id = max(id, ?1)";
        let points = Points("store.forget.commit", "store.forget.committed");
        let forget = move |tx: &Transaction<'_>| {
            let keys = tx.prepare_cached(keys)?.execute(params![At(now), limit])?;
            let events = params![At(outbox_before), limit, published_only];
            let mut forgotten = tx.prepare_cached(forgotten)?;
            let events: Vec<i64> = collect(forgotten.query(events)?, |row| Ok(row.get(0)?))?;
            if let Some(newest) = events.iter().max() {
                tx.prepare_cached(noted)?.execute([newest])?;
            }
            Ok((keys + events.len()) as u64)
        };
        self.db.write(points, forget).await
    }
}

/// Runs whose time is over.
pub(super) const EXPIRED: &str = "
    SELECT id FROM runs WHERE status = 'running' AND created_at + timeout * 1000000 <= ?1
    ORDER BY created_at + timeout * 1000000 LIMIT ?2";

/// Timed-out runs with hosts that run all the same.
pub(super) const LEFT_OVER: &str = "
    SELECT w.run_id FROM run_work AS w CROSS JOIN runs AS r ON r.id = w.run_id
    WHERE w.state IN (1, 2) AND r.status = 'timeout' AND EXISTS
        (SELECT 1 FROM run_hosts AS h WHERE h.run_id = w.run_id AND h.status = 'running')
    LIMIT ?1";

/// Runs whose time is over, the longest first, then timed-out runs with hosts that still run: only
/// a worker that reports after the timeout adds such hosts, so started work is all that is searched.
fn due(tx: &Transaction<'_>, now: OffsetDateTime, limit: i64) -> StoreResult<Vec<Uuid>> {
    let mut expired = tx.prepare_cached(EXPIRED)?;
    let mut left_over = tx.prepare_cached(LEFT_OVER)?;
    let mut due = collect(expired.query(params![At(now), limit])?, |row| Ok(row.get(0)?))?;
    due.extend(collect(left_over.query([limit])?, |row| Ok(row.get::<_, Uuid>(0)?))?);
    Ok(due)
}

fn expire(tx: &Transaction<'_>, due: &[Uuid], now: OffsetDateTime) -> StoreResult<Expired> {
    let mut expired = Expired::default();
    for run_id in due {
        let Some(mut run) = find_run(tx, *run_id)? else { continue };
        if run.status == RunStatus::Running && run.status_at(now) == RunStatus::Timeout {
            take_as_sent(tx, &run)?;
            set_status(tx, &mut run, RunStatus::Timeout, now)?;
            end_work(tx, &run)?;
            expired.runs += 1;
        }
        if run.status == RunStatus::Timeout {
            expired.hosts += end_running_hosts(tx, &run, RunStatus::Timeout, now)?;
        }
    }
    Ok(expired)
}

/// Work that was not started never will be, which is said; started work is asked to end.
fn end_work(tx: &Transaction<'_>, run: &RunRow) -> StoreResult<()> {
    let unstarted = tx
        .prepare_cached("SELECT 1 FROM run_work WHERE run_id = ?1 AND state IN (0, 1)")?
        .exists([run.id])?;
    if unstarted {
        let details = "the run's time was over before a worker had started it";
        set_error(tx, run.id, error_code::TIMEOUT, details)?;
    }
    changes::end_work(tx, run.id)
}
