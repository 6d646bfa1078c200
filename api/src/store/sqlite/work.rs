//! [`WorkStore`] on SQLite: claims, inputs and batches of records. Ends of runs are in `finish`.

use std::collections::BTreeMap;

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
        OutcomeSoFar, StoredInputs, Waiting, WorkState,
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

    async fn doorbells(
        &self,
        waiting: &[Waiting],
        now: OffsetDateTime,
    ) -> StoreResult<BTreeMap<Uuid, Doorbell>> {
        let waiting = waiting.to_vec();
        self.db.read(move |tx| claims::doorbells(tx, &waiting, now)).await
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
    let (hosts, refused) = insert_unseen(tx, work, batch)?;
    host_events(tx, &work.run, &hosts, EventType::Create)?;
    let mut chunk = batch.fresh_output(work.next_counter, work.output_bytes);
    if refused {
        let note = batch.hosts_note(&chunk, work.output_bytes + chunk.len() as u64);
        chunk.to_mut().extend(note);
    }
    if !chunk.is_empty() {
        tx.prepare_cached("INSERT INTO run_output (run_id, start_byte, data) VALUES (?1, ?2, ?3)")?
            .execute(params![work.run.id, work.output_bytes, chunk.as_ref()])?;
    }
    work.next_counter = batch.end_counter();
    work.output_bytes += chunk.len() as u64;
    work.outcome.merge(&batch.outcome, batch.hosts_max);
    work.outcome.more_hosts |= refused;
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

/// Inserts the hosts of a batch that the run does not have, as far as it may have more; those, and
/// whether there was one too many. After that none is looked at any more.
fn insert_unseen(
    tx: &Transaction<'_>,
    work: &Held,
    batch: &AppendBatch,
) -> StoreResult<(Vec<RunHostRow>, bool)> {
    let run_id = work.run.id;
    let mut unseen = Vec::new();
    if work.outcome.more_hosts {
        return Ok((unseen, false));
    }
    let mut known = tx.prepare_cached("SELECT 1 FROM run_hosts WHERE run_id = ?1 AND host = ?2")?;
    // Counted only where a host appears.
    let mut room = None;
    for name in &batch.hosts {
        let name = without_nul(name);
        if known.exists(params![run_id, name])? {
            continue;
        }
        let left = match room {
            Some(left) => left,
            None => batch.hosts_max.saturating_sub(count_hosts(tx, run_id)?),
        };
        if left == 0 {
            return Ok((unseen, true));
        }
        room = Some(left - 1);
        unseen.push(insert_host(tx, run_id, name.into_owned(), batch.now)?);
    }
    Ok((unseen, false))
}

fn count_hosts(tx: &Transaction<'_>, run_id: Uuid) -> StoreResult<u64> {
    let mut statement = tx.prepare_cached("SELECT count(*) FROM run_hosts WHERE run_id = ?1")?;
    Ok(statement.query_row([run_id], |row| row.get(0))?)
}

fn insert_host(
    tx: &Transaction<'_>,
    run_id: Uuid,
    host: String,
    now: OffsetDateTime,
) -> StoreResult<RunHostRow> {
    let host = RunHostRow {
        id: Uuid::new_v4(),
        run_id,
        inventory_id: None,
        host,
        status: RunStatus::Running,
        log: String::new(),
        created_at: now,
        updated_at: now,
    };
    tx.prepare_cached(
        "INSERT INTO run_hosts (id, run_id, host, status, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
    )?
    .execute(params![host.id, run_id, host.host, State(host.status), At(now)])?;
    Ok(host)
}
