//! Runs: the trait, its small methods, and what became of sent messages. The larger methods have
//! files of their own.

use async_trait::async_trait;
use deadpool_postgres::Transaction;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    PostgresStore, cancel,
    connection::{Param, Points, committed, one, run as execute},
    create,
    fault::Fault,
    lists, logs, outbox,
    rows::{self, holdable, run_columns},
};
use crate::{
    audit::model::{Actor, AuditEntry},
    execution::model::WorkState,
    runs::model::{
        CancelOutcome, CancelRequest, CreateOutcome, IdempotencyKey, LogSlice, NewRun, Rows,
        RunDetail, RunHostQuery, RunHostRow, RunQuery, RunRow, SendOutcome, StoredAnswer, WorkView,
    },
    store::{RunStore, StoreResult},
};

#[async_trait]
impl RunStore for PostgresStore {
    async fn create(
        &self,
        runs: &[NewRun],
        key: Option<&IdempotencyKey>,
        audit: &[AuditEntry],
    ) -> StoreResult<CreateOutcome> {
        create::create(self, runs, key, audit).await
    }

    async fn finish_idempotent(
        &self,
        key: &IdempotencyKey,
        answer: &StoredAnswer,
    ) -> StoreResult<()> {
        const FINISH: &str = "
            UPDATE idempotency SET status = $5, body = $6, expires_at = $7
            WHERE principal = $1 AND org_id = $2 AND key = $3 AND body_hash = $4
              AND status IS NULL";
        let status = i32::from(answer.status);
        let hash = key.body_hash.as_slice();
        self.retrying(|| async {
            let client = self.client().await?;
            let (principal, org_id, name) = (&key.principal, &key.org_id, &key.key);
            let params: [Param<'_>; 7] =
                [principal, org_id, name, &hash, &status, &answer.body, &key.expires_at];
            execute(&client, FINISH, &params).await
        })
        .await?;
        Ok(())
    }

    async fn settle_sent(&self, run_id: Uuid, outcome: SendOutcome) -> StoreResult<()> {
        self.retrying(|| async {
            let mut client = self.client().await?;
            let transaction = client.transaction().await?;
            settle_sent(&transaction, run_id, outcome).await?;
            committed(transaction, Points("store.settle.commit", "store.settle.committed"), ())
                .await
        })
        .await
    }

    async fn cancel(
        &self,
        requests: &[CancelRequest],
        now: OffsetDateTime,
        by: Option<&Actor>,
    ) -> StoreResult<Vec<CancelOutcome>> {
        cancel::cancel(self, requests, now, by).await
    }

    async fn list(&self, query: &RunQuery) -> StoreResult<Rows<RunRow>> {
        self.retrying(|| lists::runs(self, query)).await
    }

    async fn list_hosts(&self, query: &RunHostQuery) -> StoreResult<Rows<RunHostRow>> {
        self.retrying(|| lists::hosts(self, query)).await
    }

    async fn get(&self, org_id: &str, run_id: Uuid) -> StoreResult<Option<RunDetail>> {
        if !holdable(org_id) {
            return Ok(None);
        }
        self.retrying(|| async { detail(&self.client().await?, org_id, run_id).await }).await
    }

    async fn read_log(
        &self,
        org_id: &str,
        run_id: Uuid,
        host: Option<&str>,
        from: u64,
        cap: usize,
    ) -> StoreResult<Option<LogSlice>> {
        if !holdable(org_id) || !host.is_none_or(holdable) {
            return Ok(None);
        }
        self.retrying(|| async {
            logs::read(&self.client().await?, org_id, run_id, host, from, cap).await
        })
        .await
    }
}

async fn settle_sent(
    transaction: &Transaction<'_>,
    run_id: Uuid,
    outcome: SendOutcome,
) -> Result<(), Fault> {
    const LOCK: &str = "SELECT FROM runs WHERE id = $1 FOR UPDATE";
    const DOUBT: &str = "UPDATE run_dispatch SET ambiguous = true WHERE run_id = $1";
    const TAKE: &str = "DELETE FROM run_dispatch WHERE run_id = $1";
    const REMOVE_HOSTS: &str = "DELETE FROM run_hosts WHERE run_id = $1";
    const REMOVE: &str = "DELETE FROM runs WHERE id = $1";
    if one(transaction, LOCK, &[&run_id]).await?.is_none() {
        return Ok(());
    }
    match outcome {
        SendOutcome::Accepted => drop(outbox::settle(transaction, &[run_id]).await?),
        SendOutcome::Ambiguous => drop(execute(transaction, DOUBT, &[&run_id]).await?),
        SendOutcome::Refused => {
            if execute(transaction, TAKE, &[&run_id]).await? == 1 {
                execute(transaction, REMOVE_HOSTS, &[&run_id]).await?;
                execute(transaction, REMOVE, &[&run_id]).await?;
            }
        }
    }
    Ok(())
}

async fn detail(
    client: &deadpool_postgres::Object,
    org_id: &str,
    run_id: Uuid,
) -> Result<Option<RunDetail>, Fault> {
    const DETAIL: &str = concat!(
        "SELECT ",
        run_columns!(),
        ", w.state, w.cancel_requested, w.output_bytes, p.last_seen, e.code, e.details,
           (SELECT b.run_id FROM run_work b
            WHERE b.recipient = w.recipient AND b.run_id <> w.run_id AND b.state IN (1, 2)
              AND (b.lease_until > $3 OR (b.state = 2 AND b.expires_at > $3))
            ORDER BY b.created_at LIMIT 1) AS busy_with
         FROM runs r
         LEFT JOIN run_work w ON w.run_id = r.id
         LEFT JOIN recipients p ON p.id = w.recipient
         LEFT JOIN run_error e ON e.run_id = r.id
         WHERE r.id = $1 AND r.org_id = $2"
    );
    let Some(row) = one(client, DETAIL, &[&run_id, &org_id, &OffsetDateTime::now_utc()]).await?
    else {
        return Ok(None);
    };
    let state: Option<i16> = row.try_get("state")?;
    let work = match state {
        None => None,
        Some(code) => Some(WorkView {
            state: WorkState::from_code(code),
            busy_with: row.try_get("busy_with")?,
            recipient_seen: row.try_get("last_seen")?,
            cancel_requested: row.try_get("cancel_requested")?,
        }),
    };
    let code: Option<String> = row.try_get("code")?;
    let details: Option<String> = row.try_get("details")?;
    let output: Option<i64> = row.try_get("output_bytes")?;
    Ok(Some(RunDetail {
        run: rows::run(&row)?,
        work,
        error: code.zip(details),
        output_bytes: output.map_or(0, i64::cast_unsigned),
    }))
}
