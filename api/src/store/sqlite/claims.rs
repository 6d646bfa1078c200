//! Handing out work: who may have which run, and work that is given up.

use dispatcher_wire::{RunStatus, event::error_code, execution::Doorbell};
use rusqlite::{OptionalExtension, Transaction, params};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    super::{StoreError, StoreResult},
    changes::{close_work, end_run, find_run, set_error},
    encode::{At, collect},
};
use crate::execution::model::{ClaimRequest, ClaimedWork, MAX_CLAIM_ATTEMPTS, WorkState};

/// Work that could be claimed.
struct Candidate {
    run_id: Uuid,
    attempt: i32,
    has_inputs: bool,
}

/// Claims the next run of a recipient.
pub(super) fn claim(
    tx: &Transaction<'_>,
    request: &ClaimRequest,
) -> StoreResult<Option<ClaimedWork>> {
    if is_busy(tx, request.recipient, request.now)? {
        return Ok(None);
    }
    while let Some(next) = candidate(tx, request.recipient, request.now)? {
        if next.attempt < MAX_CLAIM_ATTEMPTS {
            return take(tx, request, &next).map(Some);
        }
        give_up(tx, &next, request.now)?;
    }
    Ok(None)
}

/// Whether the recipient has a run under a live claim, or one that it may still be executing: a
/// started run keeps it busy until the run's time is over, and longer while it renews its lease.
fn is_busy(tx: &Transaction<'_>, recipient: Uuid, now: OffsetDateTime) -> StoreResult<bool> {
    let mut statement = tx.prepare_cached(
        "SELECT 1 FROM run_work AS w JOIN runs AS r ON r.id = w.run_id
         WHERE w.recipient = ?1 AND w.state < 3 AND w.state > 0 AND (w.lease_until > ?2
             OR (w.state = 2 AND w.expires_at > ?2 AND r.status = 'running'))",
    )?;
    Ok(statement.exists(params![recipient, At(now)])?)
}

fn candidate(
    tx: &Transaction<'_>,
    recipient: Uuid,
    now: OffsetDateTime,
) -> StoreResult<Option<Candidate>> {
    let mut statement = tx.prepare_cached(
        "SELECT w.run_id, w.attempt, w.inputs IS NOT NULL OR w.sealed_secrets IS NOT NULL
         FROM run_work AS w JOIN runs AS r ON r.id = w.run_id
         WHERE w.recipient = ?1 AND w.state < 3 AND w.expires_at > ?2 AND r.status = 'running'
             AND (w.state = 0 OR (w.state = 1 AND w.lease_until <= ?2))
         ORDER BY w.created_at, w.run_id LIMIT 1",
    )?;
    let found = statement.query_row(params![recipient, At(now)], |row| {
        Ok(Candidate { run_id: row.get(0)?, attempt: row.get(1)?, has_inputs: row.get(2)? })
    });
    Ok(found.optional()?)
}

fn take(
    tx: &Transaction<'_>,
    request: &ClaimRequest,
    work: &Candidate,
) -> StoreResult<ClaimedWork> {
    tx.prepare_cached(
        "UPDATE run_work SET state = ?2, claim = ?3, claimed_by = ?4, lease_until = ?5,
                             attempt = attempt + 1 WHERE run_id = ?1",
    )?
    .execute(params![
        work.run_id,
        WorkState::Claimed.code(),
        request.claim,
        request.claimed_by,
        At(request.lease_until),
    ])?;
    let gone = || StoreError::Failed(format!("run {} has work but no row", work.run_id));
    let run = find_run(tx, work.run_id)?.ok_or_else(gone)?;
    Ok(ClaimedWork {
        run_id: run.id,
        claim: request.claim,
        attempt: work.attempt + 1,
        correlation_id: run.correlation_id,
        deadline: run.expires_at(),
        has_inputs: work.has_inputs,
        org_id: run.org_id,
        name: run.name,
        url: run.url,
    })
}

/// Fails a run that was handed out too often without being started.
fn give_up(tx: &Transaction<'_>, work: &Candidate, now: OffsetDateTime) -> StoreResult<()> {
    let details = format!("given up: claimed {} times and never started", work.attempt);
    set_error(tx, work.run_id, error_code::UNDEFINED, &details)?;
    close_work(tx, work.run_id)?;
    if let Some(mut run) = find_run(tx, work.run_id)? {
        end_run(tx, &mut run, RunStatus::Failure, now)?;
    }
    Ok(())
}

/// Whether a claim would yield something, and which runs are to be ended.
pub(super) fn doorbell(
    tx: &Transaction<'_>,
    recipient: Uuid,
    now: OffsetDateTime,
) -> StoreResult<Doorbell> {
    let work = !is_busy(tx, recipient, now)? && candidate(tx, recipient, now)?.is_some();
    let mut statement = tx.prepare_cached(
        "SELECT w.run_id FROM run_work AS w JOIN runs AS r ON r.id = w.run_id
         WHERE w.recipient = ?1 AND w.state < 3 AND w.state > 0
             AND (w.cancel_requested OR w.expires_at <= ?2 OR r.status <> 'running')
         ORDER BY w.created_at, w.run_id",
    )?;
    let cancel = collect(statement.query(params![recipient, At(now)])?, |row| Ok(row.get(0)?))?;
    Ok(Doorbell { work, cancel })
}
