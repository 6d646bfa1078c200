//! Handing out work: at most so many runs per recipient at a time, each at most a few times.

use std::collections::BTreeMap;

use deadpool_postgres::{GenericClient, Transaction};
use dispatcher_wire::{RunStatus, event::error_code, execution::Doorbell};
use time::OffsetDateTime;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    cancel::{Problem, close_work, end, note},
    connection::{Param, all, both, one, run as execute},
    fault::Fault,
    rows::{self, run_columns},
};
use crate::execution::model::{ClaimRequest, ClaimedWork, MAX_CLAIM_ATTEMPTS, Waiting, WorkState};

/// Work that keeps its recipient busy: claimed under a lease that is not over, or started and not
/// given up by time. `$2` is now.
macro_rules! busy {
    ($recipient:literal) => {
        concat!(
            "w.recipient = ",
            $recipient,
            " AND w.state IN (1, 2)
              AND (w.lease_until > $2
                   OR (w.state = 2 AND w.expires_at > $2 AND r.status = 'running'))"
        )
    };
}
/// Work that may be handed out.
macro_rules! claimable {
    ($recipient:literal) => {
        concat!(
            "w.recipient = ",
            $recipient,
            " AND w.state < 3
              AND (w.state = 0 OR (w.state = 1 AND w.lease_until <= $2))
              AND w.expires_at > $2 AND r.status = 'running'"
        )
    };
}
macro_rules! work_columns {
    () => {
        ", w.state, w.claim, w.attempt, w.expires_at,
           (w.inputs IS NOT NULL OR w.sealed_secrets IS NOT NULL) AS has_inputs
         FROM runs r JOIN run_work w ON w.run_id = r.id WHERE "
    };
}

/// [`crate::store::WorkStore::claim`].
pub(super) async fn claim(
    transaction: &Transaction<'_>,
    request: &ClaimRequest,
) -> Result<Option<ClaimedWork>, Fault> {
    // Claims of one recipient take turns, or two could each find it idle. Each statement has its
    // own snapshot, so the second sees what the turn before it did.
    const TURN: &str = "SELECT pg_advisory_xact_lock($1)";
    const BUSY: &str = concat!("SELECT ", run_columns!(), work_columns!(), busy!("$1"));
    let turn = turn_of(request.recipient);
    let idle: [Param<'_>; 2] = [&request.recipient, &request.now];
    let (_, busy) = both(transaction, (TURN, &[&turn]), (BUSY, &idle)).await?;
    for row in &busy {
        // The answer to this very request was lost: it is given again.
        let again = row.try_get::<_, Option<Uuid>>("claim")? == Some(request.claim);
        let claimed = row.try_get::<_, i16>("state")? == WorkState::Claimed.code();
        if again && claimed {
            return Ok(Some(work(row, request.claim, row.try_get("attempt")?)?));
        }
    }
    let idle = busy.len() < usize::try_from(request.at_a_time).unwrap_or(usize::MAX);
    if idle { next(transaction, request).await } else { Ok(None) }
}

/// The lock on which claims of a recipient take turns.
fn turn_of(recipient: Uuid) -> i64 {
    let (high, low) = recipient.as_u64_pair();
    (high ^ low).cast_signed()
}

/// Takes the oldest run that may be taken; ends those that were handed out too often.
async fn next(
    transaction: &Transaction<'_>,
    request: &ClaimRequest,
) -> Result<Option<ClaimedWork>, Fault> {
    const NEXT: &str = concat!(
        "SELECT ",
        run_columns!(),
        work_columns!(),
        claimable!("$1"),
        " ORDER BY w.created_at, w.run_id LIMIT 1 FOR NO KEY UPDATE OF r, w SKIP LOCKED"
    );
    const TAKE: &str = "
        UPDATE run_work SET state = 1, claim = $2, claimed_by = $3, lease_until = $4, attempt = $5
        WHERE run_id = $1";
    while let Some(row) = one(transaction, NEXT, &[&request.recipient, &request.now]).await? {
        let attempt = row.try_get::<_, i32>("attempt")? + 1;
        if attempt > MAX_CLAIM_ATTEMPTS {
            give_up(transaction, &row, request.now).await?;
            continue;
        }
        let work = work(&row, request.claim, attempt)?;
        let by = rows::held(&request.claimed_by);
        let until = request.lease_until;
        execute(transaction, TAKE, &[&work.run_id, &request.claim, &by, &until, &attempt]).await?;
        return Ok(Some(work));
    }
    Ok(None)
}

/// Fails a run that its workers took again and again and never started.
async fn give_up(
    transaction: &Transaction<'_>,
    row: &Row,
    now: OffsetDateTime,
) -> Result<(), Fault> {
    let run = rows::run(row)?;
    let problem = Problem {
        run_id: run.id,
        code: error_code::UNDEFINED.to_owned(),
        details: format!("given up: claimed {MAX_CLAIM_ATTEMPTS} times and never started"),
    };
    close_work(transaction, &[run.id]).await?;
    note(transaction, &[problem]).await?;
    end(transaction, vec![run], RunStatus::Failure, now).await?;
    Ok(())
}

fn work(row: &Row, claim: Uuid, attempt: i32) -> Result<ClaimedWork, Fault> {
    let run = rows::run(row)?;
    Ok(ClaimedWork {
        run_id: run.id,
        org_id: run.org_id,
        claim,
        attempt,
        correlation_id: run.correlation_id,
        name: run.name,
        url: run.url,
        deadline: row.try_get("expires_at")?,
        has_inputs: row.try_get("has_inputs")?,
    })
}

/// [`crate::store::WorkStore::doorbells`]. Whoever has no work at all costs one look into an index.
pub(super) async fn doorbells(
    client: &impl GenericClient,
    waiting: &[Waiting],
    now: OffsetDateTime,
) -> Result<BTreeMap<Uuid, Doorbell>, Fault> {
    const RING: &str = concat!(
        "SELECT * FROM (
           SELECT one.id,
             (SELECT count(*) FROM run_work w JOIN runs r ON r.id = w.run_id WHERE ",
        busy!("one.id"),
        ") < one.at_a_time AND EXISTS (SELECT FROM run_work w JOIN runs r ON r.id = w.run_id WHERE ",
        claimable!("one.id"),
        ") AS work,
             ARRAY (SELECT w.run_id FROM run_work w JOIN runs r ON r.id = w.run_id
                    WHERE w.recipient = one.id AND w.state IN (1, 2)
                      AND (w.cancel_requested OR w.expires_at <= $2 OR r.status <> 'running')
                    ORDER BY w.created_at, w.run_id) AS cancel
           FROM unnest($1::uuid[], $3::bigint[]) AS one (id, at_a_time)
           WHERE EXISTS (SELECT FROM run_work w WHERE w.recipient = one.id AND w.state < 3)
         ) bells WHERE work OR cancel <> '{}'"
    );
    let ids: Vec<Uuid> = waiting.iter().map(|one| one.recipient).collect();
    let at_a_time: Vec<i64> = waiting.iter().map(|one| i64::from(one.at_a_time)).collect();
    let rows = all(client, RING, &[&ids, &now, &at_a_time]).await?;
    let bell = |row: &Row| {
        let bell = Doorbell { work: row.try_get("work")?, cancel: row.try_get("cancel")? };
        Ok((row.try_get("id")?, bell))
    };
    rows.iter().map(bell).collect()
}
