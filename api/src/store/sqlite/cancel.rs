//! Canceling runs and settling those that a connector has sent.

use dispatcher_wire::RunStatus;
use rusqlite::{OptionalExtension, Transaction, params};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    super::StoreResult,
    audit,
    changes::{close_work, end_run, find_run, take_as_sent},
};
use crate::{
    audit::model::{Action, Actor},
    execution::model::WorkState,
    runs::model::{CancelOutcome, CancelRequest, SendOutcome},
};

/// Cancels runs, as far as they can be; those that nobody had canceled before go into the log.
pub(super) fn all(
    tx: &Transaction<'_>,
    requests: &[CancelRequest],
    now: OffsetDateTime,
    by: Option<&Actor>,
) -> StoreResult<Vec<CancelOutcome>> {
    let (mut outcomes, mut canceled) = (Vec::new(), Vec::new());
    for request in requests {
        let (outcome, is_first) = cancel(tx, request, now)?;
        outcomes.push(outcome);
        canceled.extend(is_first.then_some((request.org_id.as_str(), request.run_id)));
    }
    if let Some(by) = by {
        audit::write(tx, &by.did_to_runs(Action::RunCancel, canceled, now))?;
    }
    Ok(outcomes)
}

/// Cancels one run, as far as it can be; and whether nobody had before.
fn cancel(
    tx: &Transaction<'_>,
    request: &CancelRequest,
    now: OffsetDateTime,
) -> StoreResult<(CancelOutcome, bool)> {
    let Some(mut run) = find_run(tx, request.run_id)? else {
        return Ok((CancelOutcome::NotFound, false));
    };
    if run.org_id != request.org_id {
        return Ok((CancelOutcome::OtherOrg, false));
    }
    let state = tx
        .prepare_cached("SELECT state FROM run_work WHERE run_id = ?1")?
        .query_row([run.id], |row| row.get(0))
        .optional()?;
    let Some(state) = state.map(WorkState::from_code) else {
        return Ok((CancelOutcome::Elsewhere(Box::new(run)), false));
    };
    if run.status_at(now) != RunStatus::Running || state == WorkState::Done {
        return Ok((CancelOutcome::NotRunning, false));
    }
    let is_first = request_end(tx, request)?;
    if state == WorkState::Pending {
        close_work(tx, run.id)?;
        end_run(tx, &mut run, RunStatus::Canceled, now)?;
        return Ok((CancelOutcome::Canceled, is_first));
    }
    Ok((CancelOutcome::Requested { recipient: run.recipient }, is_first))
}

/// Marks work to be ended; the first who asked is remembered. Whether this was the first.
fn request_end(tx: &Transaction<'_>, request: &CancelRequest) -> StoreResult<bool> {
    let marked = tx
        .prepare_cached(
            "UPDATE run_work SET cancel_requested = 1, canceled_by = ?2
         WHERE run_id = ?1 AND cancel_requested = 0",
        )?
        .execute(params![request.run_id, request.principal])?;
    Ok(marked > 0)
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
