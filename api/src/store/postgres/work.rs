//! Work on runs: the trait, and what every write under a hold begins with.

use std::collections::BTreeMap;

use async_trait::async_trait;
use deadpool_postgres::Transaction;
use dispatcher_wire::execution::Doorbell;
use time::OffsetDateTime;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    PostgresStore, append, claim,
    connection::{Param, Points, both, committed, one},
    fault::Fault,
    finish,
    rows::{self, run_columns},
};
use crate::{
    execution::model::{
        AppendBatch, AppendOutcome, ClaimRequest, ClaimedWork, Finish, FinishOutcome, Hold,
        OutcomeSoFar, StoredInputs, Waiting, WorkState,
    },
    runs::model::RunRow,
    store::{StoreResult, WorkStore},
};

#[async_trait]
impl WorkStore for PostgresStore {
    async fn claim(&self, request: &ClaimRequest) -> StoreResult<Option<ClaimedWork>> {
        self.retrying(|| async {
            let mut client = self.client().await?;
            let transaction = client.transaction().await?;
            let claimed = claim::claim(&transaction, request).await?;
            committed(transaction, Points("store.claim.commit", "store.claim.committed"), claimed)
                .await
        })
        .await
    }

    async fn inputs(&self, hold: Hold) -> StoreResult<Option<StoredInputs>> {
        const INPUTS: &str = "
            SELECT inputs, sealed_secrets FROM run_work
            WHERE run_id = $1 AND claim = $2 AND recipient = $3 AND state < 3";
        let Hold { run_id, claim, recipient } = hold;
        let row = self
            .retrying(|| async {
                let client = self.client().await?;
                let row = one(&client, INPUTS, &[&run_id, &claim, &recipient]).await?;
                row.map(|row| stored_inputs(&row)).transpose()
            })
            .await?;
        Ok(row)
    }

    async fn doorbells(
        &self,
        waiting: &[Waiting],
        now: OffsetDateTime,
    ) -> StoreResult<BTreeMap<Uuid, Doorbell>> {
        self.retrying(|| async { claim::doorbells(&self.client().await?, waiting, now).await })
            .await
    }

    async fn append(&self, hold: Hold, batch: &AppendBatch) -> StoreResult<AppendOutcome> {
        self.retrying(|| async {
            let mut client = self.client().await?;
            let transaction = client.transaction().await?;
            let outcome = append::append(&transaction, hold, batch).await?;
            committed(transaction, Points("store.append.commit", "store.append.committed"), outcome)
                .await
        })
        .await
    }

    async fn finish(&self, hold: Hold, finish: &Finish) -> StoreResult<FinishOutcome> {
        self.retrying(|| async {
            let mut client = self.client().await?;
            let transaction = client.transaction().await?;
            let outcome = finish::finish(&transaction, hold, finish).await?;
            committed(transaction, Points("store.finish.commit", "store.finish.committed"), outcome)
                .await
        })
        .await
    }
}

fn stored_inputs(row: &Row) -> Result<StoredInputs, Fault> {
    Ok(StoredInputs {
        inputs: row.try_get("inputs")?,
        sealed_secrets: row.try_get("sealed_secrets")?,
    })
}

/// Work whose run is locked and whose hold is proven.
pub(super) struct Held {
    pub(super) run: RunRow,
    pub(super) state: WorkState,
    pub(super) next_counter: u64,
    pub(super) output_bytes: u64,
    pub(super) cancel_requested: bool,
    pub(super) outcome: OutcomeSoFar,
}

/// Locks the run and reads its work. `None`: the hold is not, or no longer, a hold.
pub(super) async fn hold(transaction: &Transaction<'_>, hold: Hold) -> Result<Option<Held>, Fault> {
    const RUN: &str =
        concat!("SELECT ", run_columns!(), " FROM runs r WHERE r.id = $1 FOR NO KEY UPDATE");
    const WORK: &str = "
        SELECT state, next_counter, output_bytes, cancel_requested, outcome FROM run_work
        WHERE run_id = $1 AND claim = $2 AND recipient = $3";
    let Hold { run_id, claim, recipient } = hold;
    let proof: [Param<'_>; 3] = [&run_id, &claim, &recipient];
    let (run, work) = both(transaction, (RUN, &[&run_id]), (WORK, &proof)).await?;
    let (Some(run), Some(work)) = (run.first(), work.first()) else {
        return Ok(None);
    };
    let outcome: Option<serde_json::Value> = work.try_get("outcome")?;
    let outcome = outcome.map(serde_json::from_value).transpose();
    Ok(Some(Held {
        run: rows::run(run)?,
        state: WorkState::from_code(work.try_get("state")?),
        next_counter: work.try_get::<_, i64>("next_counter")?.cast_unsigned(),
        output_bytes: work.try_get::<_, i64>("output_bytes")?.cast_unsigned(),
        cancel_requested: work.try_get("cancel_requested")?,
        outcome: outcome
            .map_err(|error| Fault::broken(format!("an outcome that is none: {error}")))?
            .unwrap_or_default(),
    }))
}
