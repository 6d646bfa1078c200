//! What a valid upload does to its run and the run's hosts, in the commit that marks the upload.

use std::collections::HashMap;

use dispatcher_wire::RunStatus;
use rusqlite::{Transaction, params};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    super::StoreResult,
    changes::{close_work, hosts_of, set_error, take_as_sent},
    encode::{At, RUN, State, first, run, to_json},
    outbox::{host_events, run_event},
    uploads::{close, is_held},
};
use crate::{
    events::model::EventType,
    runs::model::{RunHostRow, RunRow},
    uploads::model::{ApplyOutcome, ClaimedUpload, OUT_OF_DATE, RunnerUpdate, UploadState},
};

/// Applies an update and marks its upload.
pub(super) fn apply(
    tx: &Transaction<'_>,
    upload: &ClaimedUpload,
    update: &RunnerUpdate,
    now: OffsetDateTime,
) -> StoreResult<ApplyOutcome> {
    if !is_held(tx, upload)? {
        return Ok(ApplyOutcome::NotYours);
    }
    let Some(mut run) = find(tx, upload, update.correlation_id)? else {
        let reason = format!(
            "organisation {} has no such run with correlation id {}",
            upload.upload.org_id, update.correlation_id
        );
        close(tx, upload, UploadState::Applied, Some(&reason))?;
        return Ok(ApplyOutcome::NoRun);
    };
    // An upload proves that the run was delivered.
    take_as_sent(tx, &run)?;
    if update.is_out_of_date(stored_events(tx, run.id)?) {
        close(tx, upload, UploadState::Applied, Some(OUT_OF_DATE))?;
        return Ok(ApplyOutcome::OutOfDate);
    }
    update_run(tx, &mut run, update, now)?;
    update_hosts(tx, &run, update, now)?;
    close(tx, upload, UploadState::Applied, None)?;
    Ok(ApplyOutcome::Applied)
}

/// The run that an upload is about: the token's, where there is one, else the first by id.
fn find(
    tx: &Transaction<'_>,
    upload: &ClaimedUpload,
    correlation_id: Uuid,
) -> StoreResult<Option<RunRow>> {
    let sql = format!(
        "SELECT {RUN} FROM runs AS r WHERE r.org_id = ?1 AND r.correlation_id = ?2
         AND (?3 IS NULL OR r.id = ?3) ORDER BY r.id LIMIT 1"
    );
    let upload = &upload.upload;
    let mut statement = tx.prepare_cached(&sql)?;
    first(statement.query(params![upload.org_id, correlation_id, upload.run_id])?, run)
}

/// How many events the run has from earlier uploads.
fn stored_events(tx: &Transaction<'_>, run_id: Uuid) -> StoreResult<i64> {
    let count = "SELECT json_array_length(events) FROM runs WHERE id = ?1";
    Ok(tx.prepare_cached(count)?.query_row([run_id], |row| row.get(0))?)
}

/// Replaces the events of a run, and its state as far as the one it has allows. What succeeded or
/// failed stays as it is.
fn update_run(
    tx: &Transaction<'_>,
    run: &mut RunRow,
    update: &RunnerUpdate,
    now: OffsetDateTime,
) -> StoreResult<()> {
    if matches!(run.status, RunStatus::Success | RunStatus::Failure) {
        return Ok(());
    }
    if run.status.may_become(update.status) {
        run.status = update.status;
    }
    run.updated_at = now;
    tx.prepare_cached("UPDATE runs SET status = ?2, events = ?3, updated_at = ?4 WHERE id = ?1")?
        .execute(params![run.id, State(run.status), to_json(&update.events)?, At(now)])?;
    if let Some((code, details)) = &update.error {
        set_error(tx, run.id, code, details)?;
    }
    if run.status.is_final() {
        close_unstarted_work(tx, run.id)?;
    }
    run_event(tx, run, EventType::Update)
}

/// A run of our workers that became final by an upload is not started any more.
fn close_unstarted_work(tx: &Transaction<'_>, run_id: Uuid) -> StoreResult<()> {
    let unstarted = tx
        .prepare_cached("SELECT 1 FROM run_work WHERE run_id = ?1 AND state < 2")?
        .exists([run_id])?;
    if unstarted { close_work(tx, run_id) } else { Ok(()) }
}

fn update_hosts(
    tx: &Transaction<'_>,
    run: &RunRow,
    update: &RunnerUpdate,
    now: OffsetDateTime,
) -> StoreResult<()> {
    let known = hosts_of(tx, run.id)?;
    let known: HashMap<&str, &RunHostRow> =
        known.iter().map(|host| (host.host.as_str(), host)).collect();
    let (mut created, mut changed) = (Vec::new(), Vec::new());
    for (name, status) in &update.hosts {
        // A host that appears in a run which is over is over too.
        let over = *status == RunStatus::Running && run.status.is_final();
        let status = if over { run.status } else { *status };
        match known.get(name.as_str()) {
            None => created.push(insert_host(tx, run, name, status, &update.log, now)?),
            Some(host) if may_take(host.status, status) => {
                changed.push(update_host(tx, host, status, &update.log, now)?);
            }
            Some(_) => {}
        }
    }
    host_events(tx, run, &created, EventType::Create)?;
    host_events(tx, run, &changed, EventType::Update)
}

const fn may_take(from: RunStatus, to: RunStatus) -> bool {
    !from.is_final() || from.may_become(to)
}

fn insert_host(
    tx: &Transaction<'_>,
    run: &RunRow,
    name: &str,
    status: RunStatus,
    log: &str,
    now: OffsetDateTime,
) -> StoreResult<RunHostRow> {
    let host = RunHostRow {
        id: Uuid::new_v4(),
        run_id: run.id,
        inventory_id: None,
        host: name.to_owned(),
        status,
        log: String::new(),
        created_at: now,
        updated_at: now,
    };
    tx.prepare_cached(
        "INSERT INTO run_hosts (id, run_id, host, status, log, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6)",
    )?
    .execute(params![host.id, run.id, name, State(status), log, At(now)])?;
    Ok(host)
}

fn update_host(
    tx: &Transaction<'_>,
    host: &RunHostRow,
    status: RunStatus,
    log: &str,
    now: OffsetDateTime,
) -> StoreResult<RunHostRow> {
    tx.prepare_cached("UPDATE run_hosts SET status = ?2, log = ?3, updated_at = ?4 WHERE id = ?1")?
        .execute(params![host.id, State(status), log, At(now)])?;
    Ok(RunHostRow { status, updated_at: now, ..host.clone() })
}
