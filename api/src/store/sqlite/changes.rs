//! State changes that several intentions share: a run, its running hosts, its work, its first
//! events. Each writes its events.

use dispatcher_wire::RunStatus;
use rusqlite::{Transaction, params};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    super::StoreResult,
    encode::{At, HOST, RUN, State, collect, first, host, run, without_nul},
    outbox::{host_events, run_event},
};
use crate::{
    events::model::EventType,
    execution::model::WorkState,
    runs::model::{RunHostRow, RunRow},
};

/// A run by its id.
pub(super) fn find_run(tx: &Transaction<'_>, run_id: Uuid) -> StoreResult<Option<RunRow>> {
    let sql = format!("SELECT {RUN} FROM runs AS r WHERE r.id = ?1");
    first(tx.prepare_cached(&sql)?.query([run_id])?, run)
}

/// The hosts of a run by name, without logs.
pub(super) fn hosts_of(tx: &Transaction<'_>, run_id: Uuid) -> StoreResult<Vec<RunHostRow>> {
    let sql = format!("SELECT {HOST} FROM run_hosts AS h WHERE h.run_id = ?1 ORDER BY h.host");
    collect(tx.prepare_cached(&sql)?.query([run_id])?, host)
}

/// Moves a run to a state.
pub(super) fn set_status(
    tx: &Transaction<'_>,
    run: &mut RunRow,
    status: RunStatus,
    now: OffsetDateTime,
) -> StoreResult<()> {
    tx.prepare_cached("UPDATE runs SET status = ?2, updated_at = ?3 WHERE id = ?1")?
        .execute(params![run.id, State(status), At(now)])?;
    (run.status, run.updated_at) = (status, now);
    run_event(tx, run, EventType::Update)
}

/// Moves the hosts of a run that are running to a state; how many there were.
pub(super) fn end_running_hosts(
    tx: &Transaction<'_>,
    run: &RunRow,
    status: RunStatus,
    now: OffsetDateTime,
) -> StoreResult<u64> {
    let mut running = hosts_of(tx, run.id)?;
    running.retain(|host| host.status == RunStatus::Running);
    let mut update =
        tx.prepare_cached("UPDATE run_hosts SET status = ?2, updated_at = ?3 WHERE id = ?1")?;
    for host in &mut running {
        update.execute(params![host.id, State(status), At(now)])?;
        (host.status, host.updated_at) = (status, now);
    }
    host_events(tx, run, &running, EventType::Update)?;
    Ok(running.len() as u64)
}

/// Moves a run and its running hosts to a state; how many hosts there were.
pub(super) fn end_run(
    tx: &Transaction<'_>,
    run: &mut RunRow,
    status: RunStatus,
    now: OffsetDateTime,
) -> StoreResult<u64> {
    set_status(tx, run, status, now)?;
    end_running_hosts(tx, run, status, now)
}

/// Closes the work on a run: nobody starts it any more, and its inputs and secrets are gone.
pub(super) fn close_work(tx: &Transaction<'_>, run_id: Uuid) -> StoreResult<()> {
    tx.prepare_cached(
        "UPDATE run_work SET state = ?2, inputs = NULL, sealed_secrets = NULL WHERE run_id = ?1",
    )?
    .execute(params![run_id, WorkState::Done.code()])?;
    Ok(())
}

/// Closes the work on a run that is final, as far as nobody has started it; started work is asked
/// to end. Inputs and secrets are gone either way.
pub(super) fn end_work(tx: &Transaction<'_>, run_id: Uuid) -> StoreResult<()> {
    tx.prepare_cached(
        "UPDATE run_work SET cancel_requested = (state = 2), inputs = NULL, sealed_secrets = NULL,
                             state = CASE state WHEN 2 THEN 2 ELSE 3 END
         WHERE run_id = ?1 AND state < 3",
    )?
    .execute([run_id])?;
    Ok(())
}

/// Notes why a run could not be carried out.
pub(super) fn set_error(
    tx: &Transaction<'_>,
    run_id: Uuid,
    code: &str,
    details: &str,
) -> StoreResult<()> {
    tx.prepare_cached(
        "INSERT INTO run_error (run_id, code, details) VALUES (?1, ?2, ?3)
         ON CONFLICT (run_id) DO UPDATE SET code = excluded.code, details = excluded.details",
    )?
    .execute(params![run_id, without_nul(code), without_nul(details)])?;
    Ok(())
}

/// Where a run waits for the outcome of its sending, takes it as delivered: its first events are
/// written. `false`: it does not wait.
pub(super) fn take_as_sent(tx: &Transaction<'_>, run: &RunRow) -> StoreResult<bool> {
    let waited =
        tx.prepare_cached("DELETE FROM run_dispatch WHERE run_id = ?1")?.execute([run.id])?;
    if waited > 0 {
        announce(tx, run, &hosts_of(tx, run.id)?)?;
    }
    Ok(waited > 0)
}

/// Writes the first events of a run and its hosts.
pub(super) fn announce(
    tx: &Transaction<'_>,
    run: &RunRow,
    hosts: &[RunHostRow],
) -> StoreResult<()> {
    run_event(tx, run, EventType::Create)?;
    host_events(tx, run, hosts, EventType::Create)
}
