//! What time does to rows: timeouts, forgotten keys and events.

use async_trait::async_trait;
use deadpool_postgres::Transaction;
use dispatcher_wire::{RunStatus, event::error_code};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    PostgresStore,
    cancel::{Problem, end, end_hosts, note},
    connection::{Points, all, committed, run as execute},
    fault::Fault,
    outbox::{self, Changes},
    rows::{self, run_columns},
};
use crate::{
    runs::model::RunRow,
    store::{Expired, StoreResult, UpkeepStore},
};

#[async_trait]
impl UpkeepStore for PostgresStore {
    async fn ping(&self) -> StoreResult<()> {
        self.retrying(|| async { Ok(self.client().await?.batch_execute("SELECT 1").await?) }).await
    }

    async fn expire(&self, now: OffsetDateTime, limit: i64) -> StoreResult<Expired> {
        self.retrying(|| async {
            let mut client = self.client().await?;
            let transaction = client.transaction().await?;
            let expired = expire(&transaction, now, limit).await?;
            committed(transaction, Points("store.expire.commit", "store.expire.committed"), expired)
                .await
        })
        .await
    }

    async fn forget(
        &self,
        now: OffsetDateTime,
        outbox_before: OffsetDateTime,
        published_only: bool,
        limit: i64,
    ) -> StoreResult<u64> {
        const FORGET: &str = "
            DELETE FROM idempotency WHERE (principal, org_id, key) IN
                (SELECT principal, org_id, key FROM idempotency WHERE expires_at <= $1
                 ORDER BY expires_at LIMIT $2)";
        self.retrying(|| async {
            let mut client = self.client().await?;
            let transaction = client.transaction().await?;
            let keys = execute(&transaction, FORGET, &[&now, &limit]).await?;
            let events = outbox::forget(&transaction, outbox_before, published_only, limit).await?;
            committed(
                transaction,
                Points("store.forget.commit", "store.forget.committed"),
                keys + events,
            )
            .await
        })
        .await
    }
}

async fn expire(
    transaction: &Transaction<'_>,
    now: OffsetDateTime,
    limit: i64,
) -> Result<Expired, Fault> {
    let (expired, known) = locked(transaction, now, limit).await?;
    let both: Vec<Uuid> = expired.iter().chain(&known).map(|run| run.id).collect();
    if both.is_empty() {
        return Ok(Expired::default());
    }
    outbox::settle(transaction, &both).await?;
    let runs = expired.len() as u64;
    let ids: Vec<Uuid> = expired.iter().map(|run| run.id).collect();
    end_work(transaction, &ids).await?;
    let hosts = end(transaction, expired, RunStatus::Timeout, now).await?
        + end_hosts(transaction, &known, RunStatus::Timeout, now, Changes::default()).await?;
    Ok(Expired { runs, hosts })
}

/// Locks runs whose time is over, and timed-out runs that have running hosts all the same. Whoever
/// is being changed right now is left for the next time; under the lock, the predicate holds.
///
/// The second are looked up from the running hosts, which are few: an array, since a join could be
/// planned as a scan of every run there ever was.
async fn locked(
    transaction: &Transaction<'_>,
    now: OffsetDateTime,
    limit: i64,
) -> Result<(Vec<RunRow>, Vec<RunRow>), Fault> {
    const EXPIRED: &str = concat!(
        "SELECT ",
        run_columns!(),
        " FROM runs r WHERE r.status = 'running'
            AND r.created_at + r.timeout * interval '1 second' <= $1
          ORDER BY r.id LIMIT $2 FOR NO KEY UPDATE SKIP LOCKED"
    );
    const KNOWN: &str = concat!(
        "SELECT ",
        run_columns!(),
        " FROM runs r WHERE r.status = 'timeout' AND r.id = ANY (ARRAY
            (SELECT DISTINCT h.run_id FROM run_hosts h WHERE h.status = 'running'))
          ORDER BY r.id LIMIT $1 FOR NO KEY UPDATE SKIP LOCKED"
    );
    let expired = all(transaction, EXPIRED, &[&now, &limit]).await?;
    let known = all(transaction, KNOWN, &[&limit]).await?;
    let runs = |rows: Vec<_>| rows.iter().map(rows::run).collect::<Result<Vec<_>, _>>();
    Ok((runs(expired)?, runs(known)?))
}

/// Work that was not started never will be, and says so; started work is asked to end. Either way
/// its inputs and secrets are gone, since the run is final.
async fn end_work(transaction: &Transaction<'_>, runs: &[Uuid]) -> Result<(), Fault> {
    const END: &str = "
        UPDATE run_work SET cancel_requested = (state = 2), inputs = NULL, sealed_secrets = NULL,
                            state = CASE state WHEN 2 THEN 2 ELSE 3 END
        WHERE run_id = ANY($1) AND state < 3
        RETURNING run_id, state";
    let mut never_started = Vec::new();
    for row in all(transaction, END, &[&runs]).await? {
        if row.try_get::<_, i16>("state")? == 3 {
            never_started.push(Problem {
                run_id: row.try_get("run_id")?,
                code: error_code::TIMEOUT.to_owned(),
                details: "the run's time was over before a worker had started it".to_owned(),
            });
        }
    }
    note(transaction, &never_started).await
}
