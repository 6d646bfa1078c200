//! Handing out work: who may have which run, and work that is given up.

use std::collections::BTreeMap;

use dispatcher_wire::{RunStatus, event::error_code, execution::Doorbell};
use rusqlite::{OptionalExtension, Row, Transaction, params};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    super::{StoreError, StoreResult},
    changes::{close_work, end_run, find_run, set_error},
    encode::{At, collect},
};
use crate::execution::model::{ClaimRequest, ClaimedWork, MAX_CLAIM_ATTEMPTS, Waiting, WorkState};

/// Work that keeps its recipient busy: under a live claim, or started and perhaps still executed. A
/// started run counts until its time is over, and longer while its worker renews the lease.
pub(super) const BUSY: &str = "
    SELECT w.run_id, w.attempt, w.inputs IS NOT NULL OR w.sealed_secrets IS NOT NULL,
           w.state = 1 AND w.claim IS ?3
    FROM run_work AS w JOIN runs AS r ON r.id = w.run_id
    WHERE w.recipient = ?1 AND w.state IN (1, 2) AND (w.lease_until > ?2
        OR (w.state = 2 AND w.expires_at > ?2 AND r.status = 'running'))
    ORDER BY 4 DESC LIMIT ?4";

/// With how many runs a recipient is busy.
pub(super) const BUSY_WITH: &str = "
    SELECT count(*) FROM run_work AS w JOIN runs AS r ON r.id = w.run_id
    WHERE w.recipient = ?1 AND w.state IN (1, 2) AND (w.lease_until > ?2
        OR (w.state = 2 AND w.expires_at > ?2 AND r.status = 'running'))";

/// Whether a recipient has work that is not done.
pub(super) const OPEN: &str = "SELECT 1 FROM run_work WHERE recipient = ?1 AND state < 3";

/// The next work of a recipient.
pub(super) const CANDIDATE: &str = "
    SELECT w.run_id, w.attempt, w.inputs IS NOT NULL OR w.sealed_secrets IS NOT NULL
    FROM run_work AS w JOIN runs AS r ON r.id = w.run_id
    WHERE w.recipient = ?1 AND w.state < 3 AND w.expires_at > ?2 AND r.status = 'running'
        AND (w.state = 0 OR (w.state = 1 AND w.lease_until <= ?2))
    ORDER BY w.created_at, w.run_id LIMIT 1";

/// Runs that the worker of a recipient is to end.
pub(super) const TO_BE_ENDED: &str = "
    SELECT w.run_id FROM run_work AS w JOIN runs AS r ON r.id = w.run_id
    WHERE w.recipient = ?1 AND w.state IN (1, 2)
        AND (w.cancel_requested OR w.expires_at <= ?2 OR r.status <> 'running')
    ORDER BY w.created_at, w.run_id";

/// Work that could be claimed.
struct Candidate {
    run_id: Uuid,
    attempt: i32,
    has_inputs: bool,
}

/// Claims the next run of a recipient. A request that is repeated, since its answer was lost, gets
/// the same answer.
pub(super) fn claim(
    tx: &Transaction<'_>,
    request: &ClaimRequest,
) -> StoreResult<Option<ClaimedWork>> {
    let at_a_time = request.at_a_time;
    let busy = busy(tx, request.recipient, request.now, Some(request.claim), at_a_time)?;
    if let Some((first, true)) = busy.first() {
        return handed_out(tx, request, first).map(Some);
    }
    if !may_take(&busy, at_a_time) {
        return Ok(None);
    }
    while let Some(mut next) = candidate(tx, request.recipient, request.now)? {
        if next.attempt < MAX_CLAIM_ATTEMPTS {
            next.attempt += 1;
            take(tx, request, &next)?;
            return handed_out(tx, request, &next).map(Some);
        }
        give_up(tx, &next, request.now)?;
    }
    Ok(None)
}

/// Whether a recipient that is busy with this may take one more.
fn may_take(busy: &[(Candidate, bool)], at_a_time: u32) -> bool {
    busy.len() < usize::try_from(at_a_time).unwrap_or(usize::MAX)
}

/// What the recipient is busy with, at most so many, and whether it is claimed work of that claim,
/// which comes first.
fn busy(
    tx: &Transaction<'_>,
    recipient: Uuid,
    now: OffsetDateTime,
    claim: Option<Uuid>,
    at_most: u32,
) -> StoreResult<Vec<(Candidate, bool)>> {
    let mut statement = tx.prepare_cached(BUSY)?;
    let found = statement.query(params![recipient, At(now), claim, at_most])?;
    collect(found, |row| Ok((work(row)?, row.get(3)?)))
}

fn candidate(
    tx: &Transaction<'_>,
    recipient: Uuid,
    now: OffsetDateTime,
) -> StoreResult<Option<Candidate>> {
    let mut statement = tx.prepare_cached(CANDIDATE)?;
    Ok(statement.query_row(params![recipient, At(now)], work).optional()?)
}

fn work(row: &Row<'_>) -> rusqlite::Result<Candidate> {
    Ok(Candidate { run_id: row.get(0)?, attempt: row.get(1)?, has_inputs: row.get(2)? })
}

fn take(tx: &Transaction<'_>, request: &ClaimRequest, work: &Candidate) -> StoreResult<()> {
    tx.prepare_cached(
        "UPDATE run_work SET state = ?2, claim = ?3, claimed_by = ?4, lease_until = ?5,
                             attempt = ?6 WHERE run_id = ?1",
    )?
    .execute(params![
        work.run_id,
        WorkState::Claimed.code(),
        request.claim,
        request.claimed_by,
        At(request.lease_until),
        work.attempt,
    ])?;
    Ok(())
}

/// What the claim's holder is told.
fn handed_out(
    tx: &Transaction<'_>,
    request: &ClaimRequest,
    work: &Candidate,
) -> StoreResult<ClaimedWork> {
    let gone = || StoreError::Failed(format!("run {} has work but no row", work.run_id));
    let run = find_run(tx, work.run_id)?.ok_or_else(gone)?;
    Ok(ClaimedWork {
        run_id: run.id,
        claim: request.claim,
        attempt: work.attempt,
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

/// Of those who wait, whose bell rings and why. Whoever has no work at all costs one look into an
/// index.
pub(super) fn doorbells(
    tx: &Transaction<'_>,
    waiting: &[Waiting],
    now: OffsetDateTime,
) -> StoreResult<BTreeMap<Uuid, Doorbell>> {
    let mut bells = BTreeMap::new();
    let mut open = tx.prepare_cached(OPEN)?;
    for one in waiting {
        if open.exists([one.recipient])? {
            let bell = doorbell(tx, one, now)?;
            if bell.work || !bell.cancel.is_empty() {
                bells.insert(one.recipient, bell);
            }
        }
    }
    Ok(bells)
}

/// Whether a claim would yield something, and which runs are to be ended.
fn doorbell(tx: &Transaction<'_>, one: &Waiting, now: OffsetDateTime) -> StoreResult<Doorbell> {
    let Waiting { recipient, at_a_time } = *one;
    let mut statement = tx.prepare_cached(BUSY_WITH)?;
    let busy_with: u32 = statement.query_row(params![recipient, At(now)], |row| row.get(0))?;
    let work = busy_with < at_a_time && candidate(tx, recipient, now)?.is_some();
    let mut statement = tx.prepare_cached(TO_BE_ENDED)?;
    let cancel = collect(statement.query(params![recipient, At(now)])?, |row| Ok(row.get(0)?))?;
    Ok(Doorbell { work, cancel })
}
