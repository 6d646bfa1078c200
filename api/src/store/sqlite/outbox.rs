//! The outbox: one row per change of a run or run host, numbered per run without gaps.

use rusqlite::{Transaction, params};
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    super::StoreResult,
    encode::{At, State, to_json},
};
use crate::{
    events::model::{EventType, HEARTBEAT, run_host_payload, run_payload},
    runs::model::{RunHostRow, RunRow},
};

/// Writes the event of one change of a run.
pub(super) fn run_event(
    tx: &Transaction<'_>,
    run: &RunRow,
    event_type: EventType,
) -> StoreResult<()> {
    run_event_at(tx, run, event_type, run.updated_at)
}

/// The same for what happens at another time than the run's last change.
pub(super) fn run_event_at(
    tx: &Transaction<'_>,
    run: &RunRow,
    event_type: EventType,
    at: OffsetDateTime,
) -> StoreResult<()> {
    if run.id == HEARTBEAT {
        return Ok(());
    }
    let number = reserve(tx, run.id, 1)?;
    let entity = ("run", run.id, State(run.status), At(at));
    insert(tx, run, number, entity, event_type, &run_payload(run))
}

/// Writes the events of one change of each of these hosts of a run.
pub(super) fn host_events(
    tx: &Transaction<'_>,
    run: &RunRow,
    hosts: &[RunHostRow],
    event_type: EventType,
) -> StoreResult<()> {
    let hosts = hosts.iter().map(|host| (host, host.updated_at));
    write_hosts(tx, run, hosts, event_type)
}

/// The same for what happens at another time than the hosts' last changes.
pub(super) fn host_events_at(
    tx: &Transaction<'_>,
    run: &RunRow,
    hosts: &[RunHostRow],
    event_type: EventType,
    at: OffsetDateTime,
) -> StoreResult<()> {
    write_hosts(tx, run, hosts.iter().map(|host| (host, at)), event_type)
}

fn write_hosts<'a>(
    tx: &Transaction<'_>,
    run: &RunRow,
    hosts: impl ExactSizeIterator<Item = (&'a RunHostRow, OffsetDateTime)>,
    event_type: EventType,
) -> StoreResult<()> {
    if hosts.len() == 0 || run.id == HEARTBEAT {
        return Ok(());
    }
    let first = reserve(tx, run.id, hosts.len())?;
    for (number, (host, at)) in (first..).zip(hosts) {
        let entity = ("run_host", host.id, State(host.status), At(at));
        insert(tx, run, number, entity, event_type, &run_host_payload(host))?;
    }
    Ok(())
}

/// Takes the next numbers of a run; the first of them.
fn reserve(tx: &Transaction<'_>, run_id: Uuid, count: usize) -> StoreResult<i64> {
    let mut statement = tx.prepare_cached(
        "INSERT INTO run_sequence (run_id, last) VALUES (?1, ?2)
         ON CONFLICT (run_id) DO UPDATE SET last = last + ?2 RETURNING last - ?2 + 1",
    )?;
    Ok(statement.query_row(params![run_id, count], |row| row.get(0))?)
}

fn insert(
    tx: &Transaction<'_>,
    run: &RunRow,
    number: i64,
    (entity, entity_id, status, at): (&str, Uuid, State, At),
    event_type: EventType,
    payload: &Value,
) -> StoreResult<()> {
    tx.prepare_cached(
        "INSERT INTO outbox (run_id, run_seq, entity, entity_id, event_type, org_id, service,
                             status, payload, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?
    .execute(params![
        run.id,
        number,
        entity,
        entity_id,
        event_type.as_str(),
        run.org_id,
        run.service,
        status,
        to_json(payload)?,
        at,
    ])?;
    Ok(())
}
