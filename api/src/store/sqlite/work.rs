//! [`WorkStore`] on SQLite: claims, inputs and batches of records. Ends of runs are in `finish`.

use async_trait::async_trait;
use dispatcher_wire::{RunStatus, execution::Doorbell};
use rusqlite::{OptionalExtension, Transaction, params};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    super::{StoreError, StoreResult, WorkStore},
    Store,
    changes::find_run,
    claims,
    connection::Points,
    encode::{At, State, from_json, to_json, without_nul},
    finish,
    outbox::host_events,
};
use crate::{
    events::model::EventType,
    execution::model::{
        AppendBatch, AppendOutcome, ClaimRequest, ClaimedWork, Finish, FinishOutcome, Hold,
        OutcomeSoFar, StoredInputs, WorkState,
    },
    runs::model::{RunHostRow, RunRow},
};

#[async_trait]
impl WorkStore for Store {
    async fn claim(&self, request: &ClaimRequest) -> StoreResult<Option<ClaimedWork>> {
        let request = request.clone();
        let points = Points("store.claim.commit", "store.claim.committed");
        self.db.write(points, move |tx| claims::claim(tx, &request)).await
    }

    async fn inputs(&self, hold: Hold) -> StoreResult<Option<StoredInputs>> {
        self.db.read(move |tx| inputs(tx, hold)).await
    }

    async fn doorbell(&self, recipient: Uuid, now: OffsetDateTime) -> StoreResult<Doorbell> {
        self.db.read(move |tx| claims::doorbell(tx, recipient, now)).await
    }

    async fn append(&self, hold: Hold, batch: &AppendBatch) -> StoreResult<AppendOutcome> {
        let batch = batch.clone();
        let points = Points("store.append.commit", "store.append.committed");
        self.db.write(points, move |tx| append(tx, hold, &batch)).await
    }

    async fn finish(&self, hold: Hold, request: &Finish) -> StoreResult<FinishOutcome> {
        let request = request.clone();
        let points = Points("store.finish.commit", "store.finish.committed");
        self.db.write(points, move |tx| finish::finish(tx, hold, &request)).await
    }
}

/// Work in somebody's hands, with its run.
pub(super) struct Held {
    pub(super) run: RunRow,
    pub(super) state: WorkState,
    pub(super) next_counter: u64,
    pub(super) output_bytes: u64,
    pub(super) outcome: OutcomeSoFar,
    cancel_requested: bool,
}

/// The work that a hold stands for; `None`: it stands for nothing (any more).
pub(super) fn held(tx: &Transaction<'_>, hold: Hold) -> StoreResult<Option<Held>> {
    let mut statement = tx.prepare_cached(
        "SELECT state, next_counter, output_bytes, outcome, cancel_requested FROM run_work
         WHERE run_id = ?1 AND claim = ?2 AND recipient = ?3",
    )?;
    let found = statement
        .query_row(params![hold.run_id, hold.claim, hold.recipient], |row| {
            let outcome: Option<String> = row.get(3)?;
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, outcome, row.get(4)?))
        })
        .optional()?;
    let Some((state, next_counter, output_bytes, outcome, cancel_requested)) = found else {
        return Ok(None);
    };
    let gone = || StoreError::Failed(format!("run {} has work but no row", hold.run_id));
    Ok(Some(Held {
        run: find_run(tx, hold.run_id)?.ok_or_else(gone)?,
        state: WorkState::from_code(state),
        next_counter,
        output_bytes,
        outcome: outcome.map(|text| from_json(&text)).transpose()?.unwrap_or_default(),
        cancel_requested,
    }))
}

fn inputs(tx: &Transaction<'_>, hold: Hold) -> StoreResult<Option<StoredInputs>> {
    let mut statement = tx.prepare_cached(
        "SELECT inputs, sealed_secrets FROM run_work
         WHERE run_id = ?1 AND claim = ?2 AND recipient = ?3 AND state < 3",
    )?;
    let found = statement
        .query_row(params![hold.run_id, hold.claim, hold.recipient], |row| {
            Ok((row.get::<_, Option<String>>(0)?, row.get(1)?))
        })
        .optional()?;
    let Some((inputs, sealed_secrets)) = found else { return Ok(None) };
    let inputs = inputs.map(|text| from_json(&text)).transpose()?;
    Ok(Some(StoredInputs { inputs, sealed_secrets }))
}

fn append(tx: &Transaction<'_>, hold: Hold, batch: &AppendBatch) -> StoreResult<AppendOutcome> {
    let Some(mut work) = held(tx, hold)? else {
        return Ok(AppendOutcome::NotYours);
    };
    let next_counter = work.next_counter;
    if work.state == WorkState::Done {
        return Ok(AppendOutcome::Applied { next_counter, cancel: true });
    }
    if batch.first_counter > next_counter {
        return Ok(AppendOutcome::Gap { next_counter });
    }
    if batch.end_counter() > next_counter {
        take_in(tx, &mut work, batch)?;
    }
    tx.prepare_cached("UPDATE run_work SET lease_until = ?2 WHERE run_id = ?1")?
        .execute(params![hold.run_id, At(batch.lease_until)])?;
    let cancel = work.cancel_requested || work.run.status_at(batch.now) != RunStatus::Running;
    Ok(AppendOutcome::Applied { next_counter: work.next_counter, cancel })
}

/// Stores the records of a batch that are new.
fn take_in(tx: &Transaction<'_>, work: &mut Held, batch: &AppendBatch) -> StoreResult<()> {
    let chunk = batch.fresh_output(work.next_counter, work.output_bytes);
    if !chunk.is_empty() {
        tx.prepare_cached("INSERT INTO run_output (run_id, start_byte, data) VALUES (?1, ?2, ?3)")?
            .execute(params![work.run.id, work.output_bytes, chunk.as_ref()])?;
    }
    work.next_counter = batch.end_counter();
    work.output_bytes += chunk.len() as u64;
    work.outcome.merge(&batch.outcome);
    let hosts = insert_unseen(tx, work.run.id, batch)?;
    host_events(tx, &work.run, &hosts, EventType::Create)?;
    tx.prepare_cached(
        "UPDATE run_work SET state = ?2, next_counter = ?3, output_bytes = ?4, outcome = ?5
         WHERE run_id = ?1",
    )?
    .execute(params![
        work.run.id,
        WorkState::Started.code(),
        work.next_counter,
        work.output_bytes,
        to_json(&work.outcome)?,
    ])?;
    Ok(())
}

/// Inserts the hosts of a batch that the run does not have; those.
fn insert_unseen(
    tx: &Transaction<'_>,
    run_id: Uuid,
    batch: &AppendBatch,
) -> StoreResult<Vec<RunHostRow>> {
    let mut statement = tx.prepare_cached(
        "INSERT INTO run_hosts (id, run_id, host, status, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?5) ON CONFLICT (run_id, host) DO NOTHING",
    )?;
    let mut unseen = Vec::new();
    for name in &batch.hosts {
        let host = RunHostRow {
            id: Uuid::new_v4(),
            run_id,
            inventory_id: None,
            host: without_nul(name).into_owned(),
            status: RunStatus::Running,
            log: String::new(),
            created_at: batch.now,
            updated_at: batch.now,
        };
        let inserted = statement.execute(params![
            host.id,
            run_id,
            host.host,
            State(host.status),
            At(host.created_at)
        ])?;
        if inserted > 0 {
            unseen.push(host);
        }
    }
    Ok(unseen)
}
