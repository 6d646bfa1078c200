//! What a foreign host reported, applied to its run under the run's lock, as far as the states of
//! run and hosts allow (contract, sections 3 and 5.1; decision 4).

use std::collections::BTreeMap;

use deadpool_postgres::Transaction;
use dispatcher_wire::RunStatus;
use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    cancel::{Problem, end_hosts, note},
    connection::{one, run as execute},
    fault::Fault,
    outbox::{self, Changes},
    rows::{self, held, held_json, run_columns},
    satellite,
};
use crate::{
    events::model::EventType,
    runs::model::{RunHostRow, RunRow},
    uploads::model::{
        ApplyOutcome, ClaimedUpload, OUT_OF_DATE, RunnerUpdate, Update, UploadState, of_a_worker,
    },
};

/// [`crate::store::UploadStore::apply`].
pub(super) async fn apply(
    transaction: &Transaction<'_>,
    upload: &ClaimedUpload,
    update: &Update,
    now: OffsetDateTime,
) -> Result<ApplyOutcome, Fault> {
    const MINE: &str = "
        SELECT state, reason FROM uploads WHERE id = $1 AND claim = $2 FOR UPDATE";
    let Some(mine) = one(transaction, MINE, &[&upload.upload.id, &upload.claim]).await? else {
        return Ok(ApplyOutcome::NotYours);
    };
    match (UploadState::parse(mine.try_get("state")?), mine.try_get("reason")?) {
        (Some(UploadState::Pending), _) => {}
        // It was applied under this very claim, and the answer was lost.
        (Some(UploadState::Applied), None) => return Ok(ApplyOutcome::Applied),
        (Some(UploadState::Applied), Some(OUT_OF_DATE)) => return Ok(ApplyOutcome::OutOfDate),
        (Some(UploadState::Applied), Some(_)) => return Ok(ApplyOutcome::NoRun),
        _ => return Ok(ApplyOutcome::NotYours),
    }
    let correlation_id = update.correlation_id();
    let Some(run) = find(transaction, upload, correlation_id).await? else {
        let org_id = &upload.upload.org_id;
        let why =
            format!("organisation {org_id} has no such run with correlation id {correlation_id}");
        mark(transaction, upload, Some(why)).await?;
        return Ok(ApplyOutcome::NoRun);
    };
    if is_of_a_worker(transaction, run.id).await? {
        mark(transaction, upload, Some(of_a_worker(run.id))).await?;
        return Ok(ApplyOutcome::NoRun);
    }
    // An upload proves that the run was delivered.
    outbox::settle(transaction, &[run.id]).await?;
    let mut changes = Changes::default();
    let run = match update {
        Update::Runner(update) => {
            if update.is_out_of_date(stored_events(transaction, run.id).await?) {
                mark(transaction, upload, Some(OUT_OF_DATE.to_owned())).await?;
                return Ok(ApplyOutcome::OutOfDate);
            }
            let status = after(run.status, update.status);
            let report = (status, &*update.events, update.error.as_ref());
            let run = update_run(transaction, run, report, now, &mut changes).await?;
            update_hosts(transaction, &run, update, now, &mut changes).await?;
            run
        }
        Update::Satellite(update) => {
            satellite::update(transaction, run, update, now, &mut changes).await?
        }
    };
    if run.status.is_final() {
        // Whoever the last report does not name, such as the `localhost` of a report without hosts,
        // has nobody left who would report on it.
        let status = run.status;
        end_hosts(transaction, &[run], status, now, changes).await?;
    } else {
        changes.write(transaction).await?;
    }
    mark(transaction, upload, None).await?;
    Ok(ApplyOutcome::Applied)
}

/// Whether one of our workers has the run, or is to have it.
async fn is_of_a_worker(transaction: &Transaction<'_>, run_id: Uuid) -> Result<bool, Fault> {
    const WORK: &str = "SELECT FROM run_work WHERE run_id = $1";
    Ok(one(transaction, WORK, &[&run_id]).await?.is_some())
}

/// How many events the run has from earlier uploads.
async fn stored_events(transaction: &Transaction<'_>, run_id: Uuid) -> Result<i64, Fault> {
    const COUNT: &str = "
        SELECT CASE jsonb_typeof(events) WHEN 'array' THEN jsonb_array_length(events) ELSE 0 END
        FROM runs WHERE id = $1";
    let row = one(transaction, COUNT, &[&run_id]).await?;
    Ok(row.map_or(Ok(0), |row| row.try_get::<_, i32>(0))?.into())
}

/// The run, locked: the token's, where there is one, else the first by id.
async fn find(
    transaction: &Transaction<'_>,
    upload: &ClaimedUpload,
    correlation_id: Uuid,
) -> Result<Option<RunRow>, Fault> {
    const FIND: &str = concat!(
        "SELECT ",
        run_columns!(),
        " FROM runs r WHERE r.org_id = $1 AND r.correlation_id = $2
            AND ($3::uuid IS NULL OR r.id = $3)
          ORDER BY r.id LIMIT 1 FOR NO KEY UPDATE"
    );
    let org_id = held(&upload.upload.org_id);
    let bound = upload.upload.run_id;
    let row = one(transaction, FIND, &[&org_id, &correlation_id, &bound]).await?;
    row.map(|row| rows::run(&row)).transpose()
}

async fn mark(
    transaction: &Transaction<'_>,
    upload: &ClaimedUpload,
    reason: Option<String>,
) -> Result<(), Fault> {
    const MARK: &str = "UPDATE uploads SET state = 'applied', reason = $2 WHERE id = $1";
    execute(transaction, MARK, &[&upload.upload.id, &reason]).await?;
    Ok(())
}

const fn after(stored: RunStatus, reported: RunStatus) -> RunStatus {
    if stored.may_become(reported) { reported } else { stored }
}

/// Gives a run its state, replaces its events, and notes what went wrong. What succeeded or failed
/// stays as it is.
pub(super) async fn update_run(
    transaction: &Transaction<'_>,
    mut run: RunRow,
    (status, events, error): (RunStatus, &[impl Serialize], Option<&(String, String)>),
    now: OffsetDateTime,
    changes: &mut Changes,
) -> Result<RunRow, Fault> {
    const UPDATE: &str = "
        UPDATE runs SET status = $2::text::runs_status, events = $3::text::jsonb, updated_at = $4
        WHERE id = $1";
    if matches!(run.status, RunStatus::Success | RunStatus::Failure) {
        return Ok(run);
    }
    run.status = status;
    run.updated_at = now;
    let events = held_json(events)?;
    execute(transaction, UPDATE, &[&run.id, &run.status.as_str(), &events, &now]).await?;
    if let Some((code, details)) = error {
        let (code, details) = (code.clone(), details.clone());
        note(transaction, &[Problem { run_id: run.id, code, details }]).await?;
    }
    changes.run(EventType::Update, &run);
    Ok(run)
}

/// All hosts of the report, in one statement. Those that are there and running take state and log;
/// those that are final only a state they may become, with the log that goes with it.
async fn update_hosts(
    transaction: &Transaction<'_>,
    run: &RunRow,
    update: &RunnerUpdate,
    now: OffsetDateTime,
    changes: &mut Changes,
) -> Result<(), Fault> {
    const WRITE: &str = "
        INSERT INTO run_hosts (id, run_id, host, status, log, created_at, updated_at)
        SELECT n.id, $1, n.host, n.status::runs_status, $2, $3, $3
        FROM unnest($4::uuid[], $5::text[], $6::text[]) AS n (id, host, status)
        ON CONFLICT (run_id, host) DO UPDATE
        SET status = excluded.status, log = excluded.log, updated_at = excluded.updated_at";
    let known = rows::hosts_of(transaction, &[run.id]).await?;
    let known: BTreeMap<String, RunHostRow> =
        known.into_iter().map(|host| (host.host.clone(), host)).collect();
    let mut written = Vec::new();
    let reported: BTreeMap<String, RunStatus> =
        update.hosts.iter().map(|(name, status)| (held(name), *status)).collect();
    for (name, status) in reported {
        // A host that appears in a run which is over is over too.
        let over = status == RunStatus::Running && run.status.is_final();
        let status = if over { run.status } else { status };
        match known.get(&name) {
            None => written.push((EventType::Create, appeared(run, name, status, now))),
            Some(host) if host.status == RunStatus::Running || host.status.may_become(status) => {
                let host = RunHostRow { status, updated_at: now, ..host.clone() };
                written.push((EventType::Update, host));
            }
            Some(_) => {}
        }
    }
    if written.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = written.iter().map(|(_, host)| host.id).collect();
    let names: Vec<&str> = written.iter().map(|(_, host)| host.host.as_str()).collect();
    let states: Vec<&str> = written.iter().map(|(_, host)| host.status.as_str()).collect();
    let log = held(&update.log);
    execute(transaction, WRITE, &[&run.id, &log, &now, &ids, &names, &states]).await?;
    written.iter().for_each(|(kind, host)| changes.host(*kind, run, host));
    Ok(())
}

fn appeared(run: &RunRow, host: String, status: RunStatus, now: OffsetDateTime) -> RunHostRow {
    RunHostRow {
        id: Uuid::new_v4(),
        run_id: run.id,
        inventory_id: None,
        host,
        status,
        log: String::new(),
        created_at: now,
        updated_at: now,
    }
}
