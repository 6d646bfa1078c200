//! What a valid upload does to its run and the run's hosts, in the commit that marks the upload.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
};

use dispatcher_wire::RunStatus;
use rusqlite::{Transaction, params};
use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    super::StoreResult,
    changes::{end_running_hosts, hosts_of, set_error, take_as_sent},
    encode::{At, RUN, State, first, run, to_json, without_nul},
    outbox::{host_events, run_event},
    satellite,
    uploads::{close, held},
};
use crate::{
    events::model::EventType,
    runs::model::{RunHostRow, RunRow},
    uploads::model::{
        ApplyOutcome, ClaimedUpload, OUT_OF_DATE, RunnerUpdate, Update, UploadState, of_a_worker,
    },
};

/// Applies an update and marks its upload.
pub(super) fn apply(
    tx: &Transaction<'_>,
    upload: &ClaimedUpload,
    update: &Update,
    now: OffsetDateTime,
) -> StoreResult<ApplyOutcome> {
    let Some(held) = held(tx, upload)? else {
        return Ok(ApplyOutcome::NotYours);
    };
    match (held.state, held.reason.as_deref()) {
        (UploadState::Pending, _) => {}
        // It was applied under this very claim, and the answer was lost.
        (UploadState::Applied, None) => return Ok(ApplyOutcome::Applied),
        (UploadState::Applied, Some(OUT_OF_DATE)) => return Ok(ApplyOutcome::OutOfDate),
        (UploadState::Applied, Some(_)) => return Ok(ApplyOutcome::NoRun),
        (UploadState::Invalid | UploadState::Poisoned, _) => return Ok(ApplyOutcome::NotYours),
    }
    let correlation_id = update.correlation_id();
    let Some(mut run) = find(tx, upload, correlation_id)? else {
        let reason = format!(
            "organisation {} has no such run with correlation id {correlation_id}",
            upload.upload.org_id
        );
        close(tx, upload, UploadState::Applied, Some(&reason))?;
        return Ok(ApplyOutcome::NoRun);
    };
    if is_of_a_worker(tx, run.id)? {
        close(tx, upload, UploadState::Applied, Some(&of_a_worker(run.id)))?;
        return Ok(ApplyOutcome::NoRun);
    }
    // An upload proves that the run was delivered.
    take_as_sent(tx, &run)?;
    match update {
        Update::Runner(update) => {
            if update.is_out_of_date(stored_events(tx, run.id)?) {
                close(tx, upload, UploadState::Applied, Some(OUT_OF_DATE))?;
                return Ok(ApplyOutcome::OutOfDate);
            }
            let status = after(run.status, update.status);
            update_run(tx, &mut run, (status, &*update.events, update.error.as_ref()), now)?;
            update_hosts(tx, &run, update, now)?;
        }
        Update::Satellite(update) => satellite::update(tx, &mut run, update, now)?,
    }
    if run.status.is_final() {
        // Whoever the last report does not name, such as the `localhost` of a report without hosts,
        // has nobody left who would report on it.
        end_running_hosts(tx, &run, run.status, now)?;
    }
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

/// Whether one of our workers has the run, or is to have it.
fn is_of_a_worker(tx: &Transaction<'_>, run_id: Uuid) -> StoreResult<bool> {
    Ok(tx.prepare_cached("SELECT 1 FROM run_work WHERE run_id = ?1")?.exists([run_id])?)
}

/// How many events the run has from earlier uploads.
fn stored_events(tx: &Transaction<'_>, run_id: Uuid) -> StoreResult<i64> {
    let count = "SELECT json_array_length(events) FROM runs WHERE id = ?1";
    Ok(tx.prepare_cached(count)?.query_row([run_id], |row| row.get(0))?)
}

const fn after(stored: RunStatus, reported: RunStatus) -> RunStatus {
    if stored.may_become(reported) { reported } else { stored }
}

/// Gives a run its state, replaces its events, and notes what went wrong. What succeeded or failed
/// stays as it is.
pub(super) fn update_run(
    tx: &Transaction<'_>,
    run: &mut RunRow,
    (status, events, error): (RunStatus, &[impl Serialize], Option<&(String, String)>),
    now: OffsetDateTime,
) -> StoreResult<()> {
    if matches!(run.status, RunStatus::Success | RunStatus::Failure) {
        return Ok(());
    }
    run.status = status;
    run.updated_at = now;
    tx.prepare_cached("UPDATE runs SET status = ?2, events = ?3, updated_at = ?4 WHERE id = ?1")?
        .execute(params![run.id, State(run.status), to_json(&events)?, At(now)])?;
    if let Some((code, details)) = error {
        set_error(tx, run.id, code, details)?;
    }
    run_event(tx, run, EventType::Update)
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
    let reported: BTreeMap<Cow<'_, str>, RunStatus> =
        update.hosts.iter().map(|(name, status)| (without_nul(name), *status)).collect();
    let log = without_nul(&update.log);
    let (mut created, mut changed) = (Vec::new(), Vec::new());
    for (name, status) in reported {
        // A host that appears in a run which is over is over too.
        let over = status == RunStatus::Running && run.status.is_final();
        let status = if over { run.status } else { status };
        match known.get(name.as_ref()) {
            None => created.push(insert_host(tx, run, &name, status, &log, now)?),
            Some(host) if may_take(host.status, status) => {
                changed.push(update_host(tx, host, status, &log, now)?);
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
