//! What a Satellite reported, in the commit that marks the upload: read what is stored, have it judged
//! by `uploads::satellite`, write what that came to.

use std::collections::HashMap;

use dispatcher_wire::RunStatus;
use rusqlite::{Transaction, params};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    super::StoreResult,
    apply::update_run,
    encode::{At, HOST, State, collect, from_json, host, to_json},
    outbox::host_events,
};
use crate::{
    events::model::EventType,
    runs::model::{RunHostRow, RunRow},
    uploads::{
        progress::Edit,
        satellite::{self, ChangedHost, RunProgress, SatelliteUpdate, StoredHost},
    },
};

/// Applies an update to its run.
pub(super) fn update(
    tx: &Transaction<'_>,
    run: &mut RunRow,
    update: &SatelliteUpdate,
    now: OffsetDateTime,
) -> StoreResult<()> {
    let mut hosts = hosts(tx, run.id)?;
    let known = progress(tx, run.id, &mut hosts, update)?;
    let plan = satellite::plan(run.response_full, known, hosts, update, now);
    let status = satellite::after(run.status, plan.status);
    update_run(tx, run, (status, &*update.events, update.error.as_ref()), now)?;
    for host in &plan.hosts {
        if host.is_changed {
            write(tx, host)?;
        }
        note(tx, run.id, host.row.id, host.reported, &to_json(&host.progress)?)?;
    }
    if let Some(known) = &plan.run {
        note(tx, run.id, Uuid::nil(), None, &to_json(known)?)?;
    }
    let changed = plan.hosts.into_iter().filter(|host| host.is_changed).map(|host| host.row);
    let changed: Vec<RunHostRow> = changed.collect();
    host_events(tx, run, &changed, EventType::Update)
}

/// The hosts of a run that a Satellite can name.
fn hosts(tx: &Transaction<'_>, run_id: Uuid) -> StoreResult<Vec<StoredHost>> {
    let sql = format!(
        "SELECT {HOST}, h.sat_sequence, octet_length(h.log)
         FROM run_hosts AS h WHERE h.run_id = ?1 AND h.inventory_id IS NOT NULL ORDER BY h.host"
    );
    collect(tx.prepare_cached(&sql)?.query([run_id])?, |row| {
        Ok(StoredHost {
            row: host(row)?,
            sequence: row.get(7)?,
            log_bytes: row.get(8)?,
            reported: None,
            progress: None,
        })
    })
}

/// What is known of the run; what is known of the hosts concerned is put beside them.
fn progress(
    tx: &Transaction<'_>,
    run_id: Uuid,
    hosts: &mut [StoredHost],
    update: &SatelliteUpdate,
) -> StoreResult<Option<RunProgress>> {
    let mut statement = tx.prepare_cached(
        "SELECT host_id, reported, state FROM satellite_progress WHERE run_id = ?1",
    )?;
    let mut known: HashMap<Uuid, &mut StoredHost> =
        hosts.iter_mut().map(|host| (host.row.id, host)).collect();
    let everybody = update.is_about_all_hosts();
    let mut of_run = None;
    let mut rows = statement.query([run_id])?;
    while let Some(row) = rows.next()? {
        let id: Uuid = row.get(0)?;
        let state = || row.get_ref(2)?.as_str().map_err(rusqlite::Error::from);
        if id.is_nil() {
            of_run = Some(from_json(state()?)?);
        }
        let Some(host) = known.get_mut(&id) else { continue };
        host.reported = row.get::<_, Option<State>>(1)?.map(|state| state.0);
        let named = host.row.inventory_id.is_some_and(|id| update.hosts.contains_key(&id));
        if named || everybody {
            host.progress = Some(from_json(state()?)?);
        }
    }
    Ok(of_run)
}

/// Row and log of a host that changes.
fn write(tx: &Transaction<'_>, host: &ChangedHost) -> StoreResult<()> {
    let (how, text) = match &host.edit {
        Edit::Keep => (0, String::new()),
        Edit::Append(text) => (1, text.clone()),
        rewrite @ Edit::Rewrite(_) => {
            let log = if rewrite.needs_log() { log(tx, host.row.id)? } else { String::new() };
            (2, rewrite.rewritten(&log).unwrap_or_default())
        }
    };
    tx.prepare_cached(
        "UPDATE run_hosts SET status = ?2, sat_sequence = ?3, updated_at = ?4,
                log = CASE ?5 WHEN 0 THEN log WHEN 1 THEN log || ?6 ELSE ?6 END
         WHERE id = ?1",
    )?
    .execute(params![
        host.row.id,
        State(host.row.status),
        host.sequence,
        At(host.row.updated_at),
        how,
        text
    ])?;
    Ok(())
}

fn log(tx: &Transaction<'_>, host: Uuid) -> StoreResult<String> {
    let sql = "SELECT log FROM run_hosts WHERE id = ?1";
    Ok(tx.prepare_cached(sql)?.query_row([host], |row| row.get(0))?)
}

/// Notes what is known of a host, or of all.
fn note(
    tx: &Transaction<'_>,
    run_id: Uuid,
    host: Uuid,
    reported: Option<RunStatus>,
    state: &str,
) -> StoreResult<()> {
    tx.prepare_cached(
        "INSERT INTO satellite_progress (run_id, host_id, reported, state) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (run_id, host_id) DO UPDATE
         SET reported = excluded.reported, state = excluded.state",
    )?
    .execute(params![run_id, host, reported.map(State), state])?;
    Ok(())
}
