//! What a Satellite reported, applied to its run under the run's lock: read what is stored, have it
//! judged by `uploads::satellite`, write what that came to. A fixed number of statements, whatever
//! the number of hosts.

use std::collections::HashMap;

use deadpool_postgres::Transaction;
use dispatcher_wire::RunStatus;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    apply::update_run,
    connection::{all, run as execute},
    fault::Fault,
    outbox::Changes,
    rows::{self, host_columns},
};
use crate::{
    events::model::EventType,
    runs::model::RunRow,
    uploads::{
        progress::Edit,
        satellite::{self, ChangedHost, RunProgress, SatelliteUpdate, StoredHost},
    },
};

/// Applies an update to its locked run; the run as it is then.
pub(super) async fn update(
    transaction: &Transaction<'_>,
    run: RunRow,
    update: &SatelliteUpdate,
    now: OffsetDateTime,
    changes: &mut Changes,
) -> Result<RunRow, Fault> {
    let mut hosts = hosts(transaction, run.id).await?;
    let known = progress(transaction, run.id, &mut hosts, update).await?;
    let plan = satellite::plan(run.response_full, known, hosts, update, now);
    let status = satellite::after(run.status, plan.status);
    let report = (status, &*update.events, update.error.as_ref());
    let run = update_run(transaction, run, report, now, changes).await?;
    write_hosts(transaction, &plan.hosts, now).await?;
    write_progress(transaction, run.id, plan.run.as_ref(), &plan.hosts).await?;
    for host in plan.hosts.iter().filter(|host| host.is_changed) {
        changes.host(EventType::Update, &run, &host.row);
    }
    Ok(run)
}

/// The hosts of a run that a Satellite can name.
async fn hosts(transaction: &Transaction<'_>, run_id: Uuid) -> Result<Vec<StoredHost>, Fault> {
    const HOSTS: &str = concat!(
        "SELECT ",
        host_columns!(),
        ", h.sat_sequence, octet_length(h.log) AS log_bytes
          FROM run_hosts h WHERE h.run_id = $1 AND h.inventory_id IS NOT NULL
          ORDER BY h.host COLLATE \"C\""
    );
    let rows = all(transaction, HOSTS, &[&run_id]).await?;
    let host = |row: &tokio_postgres::Row| {
        Ok(StoredHost {
            row: rows::host(row)?,
            sequence: row.try_get("sat_sequence")?,
            log_bytes: usize::try_from(row.try_get::<_, i32>("log_bytes")?).unwrap_or_default(),
            reported: None,
            progress: None,
        })
    };
    rows.iter().map(host).collect()
}

/// What is known of the run; what is known of the hosts concerned is put beside them.
async fn progress(
    transaction: &Transaction<'_>,
    run_id: Uuid,
    hosts: &mut [StoredHost],
    update: &SatelliteUpdate,
) -> Result<Option<RunProgress>, Fault> {
    const PROGRESS: &str = "
        SELECT host_id, reported, CASE WHEN $2 OR host_id = ANY($3) THEN state END AS state
        FROM satellite_progress WHERE run_id = $1";
    let is_named =
        |host: &&StoredHost| host.row.inventory_id.is_some_and(|id| update.hosts.contains_key(&id));
    let mut ids: Vec<Uuid> = hosts.iter().filter(is_named).map(|host| host.row.id).collect();
    ids.push(Uuid::nil());
    let everybody = update.is_about_all_hosts();
    let mut known = HashMap::new();
    for row in all(transaction, PROGRESS, &[&run_id, &everybody, &ids]).await? {
        known.insert(row.try_get::<_, Uuid>("host_id")?, row);
    }
    for host in hosts {
        let Some(row) = known.get(&host.row.id) else { continue };
        let reported: Option<&str> = row.try_get("reported")?;
        host.reported = reported.map(rows::status).transpose()?;
        host.progress = row.try_get::<_, Option<Value>>("state")?.map(read).transpose()?;
    }
    let Some(row) = known.get(&Uuid::nil()) else { return Ok(None) };
    row.try_get::<_, Option<Value>>("state")?.map(read).transpose()
}

/// Rows and logs of the hosts that change.
async fn write_hosts(
    transaction: &Transaction<'_>,
    hosts: &[ChangedHost],
    now: OffsetDateTime,
) -> Result<(), Fault> {
    const LOGS: &str = "SELECT id, log FROM run_hosts WHERE id = ANY($1)";
    const WRITE: &str = "
        UPDATE run_hosts h
        SET status = n.status::runs_status, sat_sequence = n.sequence, updated_at = $1,
            log = CASE n.how WHEN 0 THEN h.log WHEN 1 THEN h.log || n.text ELSE n.text END
        FROM unnest($2::uuid[], $3::text[], $4::smallint[], $5::smallint[], $6::text[])
             AS n (id, status, sequence, how, text)
        WHERE h.id = n.id";
    let changed: Vec<&ChangedHost> = hosts.iter().filter(|host| host.is_changed).collect();
    if changed.is_empty() {
        return Ok(());
    }
    let spliced = changed.iter().filter(|host| host.edit.needs_log());
    let spliced: Vec<Uuid> = spliced.map(|host| host.row.id).collect();
    let mut logs: HashMap<Uuid, String> = HashMap::new();
    if !spliced.is_empty() {
        for row in all(transaction, LOGS, &[&spliced]).await? {
            logs.insert(row.try_get("id")?, row.try_get("log")?);
        }
    }
    let ids: Vec<Uuid> = changed.iter().map(|host| host.row.id).collect();
    let states: Vec<&str> = changed.iter().map(|host| host.row.status.as_str()).collect();
    let sequences: Vec<Option<i16>> = changed.iter().map(|host| host.sequence).collect();
    let edit = |host: &&ChangedHost| match &host.edit {
        Edit::Keep => (0_i16, String::new()),
        Edit::Append(text) => (1, text.clone()),
        rewrite @ Edit::Rewrite(_) => {
            let old = logs.get(&host.row.id).map_or("", String::as_str);
            (2, rewrite.rewritten(old).unwrap_or_default())
        }
    };
    let (hows, texts): (Vec<i16>, Vec<String>) = changed.iter().map(edit).unzip();
    execute(transaction, WRITE, &[&now, &ids, &states, &sequences, &hows, &texts]).await?;
    Ok(())
}

async fn write_progress(
    transaction: &Transaction<'_>,
    run_id: Uuid,
    run: Option<&RunProgress>,
    hosts: &[ChangedHost],
) -> Result<(), Fault> {
    const WRITE: &str = "
        INSERT INTO satellite_progress (run_id, host_id, reported, state)
        SELECT $1, n.* FROM unnest($2::uuid[], $3::text[], $4::json[]) AS n
        ON CONFLICT (run_id, host_id) DO UPDATE
        SET reported = excluded.reported, state = excluded.state";
    let mut ids: Vec<Uuid> = hosts.iter().map(|host| host.row.id).collect();
    let state = |host: &ChangedHost| host.reported.map(RunStatus::as_str);
    let mut reported: Vec<Option<&str>> = hosts.iter().map(state).collect();
    let mut states =
        hosts.iter().map(|host| written(&host.progress)).collect::<Result<Vec<_>, _>>()?;
    if let Some(run) = run {
        ids.push(Uuid::nil());
        reported.push(None);
        states.push(written(run)?);
    }
    if !ids.is_empty() {
        execute(transaction, WRITE, &[&run_id, &ids, &reported, &states]).await?;
    }
    Ok(())
}

fn read<T: DeserializeOwned>(state: Value) -> Result<T, Fault> {
    serde_json::from_value(state)
        .map_err(|error| Fault::broken(format!("satellite_progress cannot be read: {error}")))
}

fn written(state: &impl Serialize) -> Result<Value, Fault> {
    serde_json::to_value(state)
        .map_err(|error| Fault::broken(format!("satellite_progress cannot be written: {error}")))
}
