//! Canceling runs and settling those that a connector has sent.

use dispatcher_wire::RunStatus;
use rusqlite::{OptionalExtension, Transaction, params};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    super::StoreResult,
    changes::{close_work, end_run, find_run, take_as_sent},
};
use crate::{
    execution::model::WorkState,
    runs::model::{CancelOutcome, CancelRequest, SendOutcome},
};

/// Cancels one run, as far as it can be.
pub(super) fn cancel(
    tx: &Transaction<'_>,
    request: &CancelRequest,
    now: OffsetDateTime,
) -> StoreResult<CancelOutcome> {
    let Some(mut run) = find_run(tx, request.run_id)? else {
        return Ok(CancelOutcome::NotFound);
    };
    if run.org_id != request.org_id {
        return Ok(CancelOutcome::OtherOrg);
    }
    let state = tx
        .prepare_cached("SELECT state FROM run_work WHERE run_id = ?1")?
        .query_row([run.id], |row| row.get(0))
        .optional()?;
    let Some(state) = state.map(WorkState::from_code) else {
        return Ok(CancelOutcome::Elsewhere(Box::new(run)));
    };
    if run.status_at(now) != RunStatus::Running || state == WorkState::Done {
        return Ok(CancelOutcome::NotRunning);
    }
    request_end(tx, request)?;
    if state == WorkState::Pending {
        close_work(tx, run.id)?;
        end_run(tx, &mut run, RunStatus::Canceled, now)?;
        return Ok(CancelOutcome::Canceled);
    }
    Ok(CancelOutcome::Requested { recipient: run.recipient })
}

/// Marks work to be ended; the first who asked is remembered.
fn request_end(tx: &Transaction<'_>, request: &CancelRequest) -> StoreResult<()> {
    tx.prepare_cached(
        "UPDATE run_work SET cancel_requested = 1, canceled_by = ?2
         WHERE run_id = ?1 AND cancel_requested = 0",
    )?
    .execute(params![request.run_id, request.principal])?;
    Ok(())
}

/// Settles a run that was sent.
pub(super) fn settle(tx: &Transaction<'_>, run_id: Uuid, outcome: SendOutcome) -> StoreResult<()> {
    match outcome {
        SendOutcome::Accepted => {
            if let Some(run) = find_run(tx, run_id)? {
                take_as_sent(tx, &run)?;
            }
        }
        SendOutcome::Refused => remove(tx, run_id)?,
        SendOutcome::Ambiguous => {
            tx.prepare_cached("UPDATE run_dispatch SET ambiguous = 1 WHERE run_id = ?1")?
                .execute([run_id])?;
        }
    }
    Ok(())
}

/// Removes a run that waits for the outcome of its sending; nobody has been told of it.
fn remove(tx: &Transaction<'_>, run_id: Uuid) -> StoreResult<()> {
    let waited =
        tx.prepare_cached("DELETE FROM run_dispatch WHERE run_id = ?1")?.execute([run_id])?;
    if waited > 0 {
        tx.prepare_cached("DELETE FROM run_hosts WHERE run_id = ?1")?.execute([run_id])?;
        tx.prepare_cached("DELETE FROM runs WHERE id = ?1")?.execute([run_id])?;
    }
    Ok(())
}
