//! Rows of the database as types of the models, and back. No statements of their own.

use deadpool_postgres::Transaction;
use dispatcher_wire::RunStatus;
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{connection::all, fault::Fault};
use crate::runs::model::{RunHostRow, RunRow};

/// The columns of a [`RunRow`], from `runs r`; [`run`] reads them.
macro_rules! run_columns {
    () => {
        "r.id, r.org_id, r.recipient, r.correlation_id, r.url, r.labels, r.status::text AS status, \
         r.timeout, r.service, r.playbook_name, r.playbook_run_url, r.principal, r.sat_id, \
         r.sat_org_id, r.response_full, r.created_at, r.updated_at"
    };
}
/// The columns of a [`RunHostRow`] without its log, from `run_hosts h`; [`host`] reads them.
macro_rules! host_columns {
    () => {
        "h.id, h.run_id, h.inventory_id, h.host, h.status::text AS status, h.created_at, \
         h.updated_at"
    };
}
pub(super) use {host_columns, run_columns};

/// The run of a row with [`run_columns`].
pub(super) fn run(row: &Row) -> Result<RunRow, Fault> {
    Ok(RunRow {
        id: row.try_get("id")?,
        org_id: row.try_get("org_id")?,
        recipient: row.try_get("recipient")?,
        correlation_id: row.try_get("correlation_id")?,
        url: row.try_get("url")?,
        labels: row.try_get("labels")?,
        status: status(row.try_get("status")?)?,
        timeout: row.try_get("timeout")?,
        service: row.try_get("service")?,
        name: row.try_get("playbook_name")?,
        web_console_url: row.try_get("playbook_run_url")?,
        principal: row.try_get("principal")?,
        sat_id: row.try_get("sat_id")?,
        sat_org_id: row.try_get("sat_org_id")?,
        response_full: row.try_get("response_full")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

/// The run host of a row with [`host_columns`]; its log stays empty.
pub(super) fn host(row: &Row) -> Result<RunHostRow, Fault> {
    Ok(RunHostRow {
        id: row.try_get("id")?,
        run_id: row.try_get("run_id")?,
        inventory_id: row.try_get("inventory_id")?,
        host: row.try_get("host")?,
        status: status(row.try_get("status")?)?,
        log: String::new(),
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

/// The state of that name.
pub(super) fn status(name: &str) -> Result<RunStatus, Fault> {
    RunStatus::parse(name).ok_or_else(|| Fault::broken(format!("there is no run status {name}")))
}

/// All hosts of these runs, those of one run by name.
pub(super) async fn hosts_of(
    transaction: &Transaction<'_>,
    runs: &[Uuid],
) -> Result<Vec<RunHostRow>, Fault> {
    const HOSTS: &str = concat!(
        "SELECT ",
        host_columns!(),
        " FROM run_hosts h WHERE h.run_id = ANY($1) ORDER BY h.run_id, h.host COLLATE \"C\""
    );
    all(transaction, HOSTS, &[&runs]).await?.iter().map(host).collect()
}

/// Writes status and time of hosts as they are in these rows.
pub(super) async fn write_host_states(
    transaction: &Transaction<'_>,
    hosts: &[RunHostRow],
) -> Result<(), Fault> {
    const WRITE: &str = "
        UPDATE run_hosts h SET status = n.status::runs_status, updated_at = n.updated_at
        FROM unnest($1::uuid[], $2::text[], $3::timestamptz[]) AS n (id, status, updated_at)
        WHERE h.id = n.id";
    if hosts.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = hosts.iter().map(|host| host.id).collect();
    let states: Vec<&str> = hosts.iter().map(|host| host.status.as_str()).collect();
    let times: Vec<OffsetDateTime> = hosts.iter().map(|host| host.updated_at).collect();
    super::connection::run(transaction, WRITE, &[&ids, &states, &times]).await?;
    Ok(())
}

/// Writes status and time of runs as they are in these rows.
pub(super) async fn write_run_states(
    transaction: &Transaction<'_>,
    runs: &[RunRow],
) -> Result<(), Fault> {
    const WRITE: &str = "
        UPDATE runs r SET status = n.status::runs_status, updated_at = n.updated_at
        FROM unnest($1::uuid[], $2::text[], $3::timestamptz[]) AS n (id, status, updated_at)
        WHERE r.id = n.id";
    if runs.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = runs.iter().map(|run| run.id).collect();
    let states: Vec<&str> = runs.iter().map(|run| run.status.as_str()).collect();
    let times: Vec<OffsetDateTime> = runs.iter().map(|run| run.updated_at).collect();
    super::connection::run(transaction, WRITE, &[&ids, &states, &times]).await?;
    Ok(())
}

/// Whether PostgreSQL can hold a text at all. What it cannot hold is nowhere in it.
pub(super) fn holdable(text: &str) -> bool {
    !text.contains('\0')
}

/// A text that PostgreSQL can hold.
pub(super) fn held(text: &str) -> String {
    text.replace('\0', "\u{FFFD}")
}

/// A value as the text of a document for `::text::jsonb`, which holds no NUL in its texts.
pub(super) fn held_json(value: &(impl Serialize + ?Sized)) -> Result<String, Fault> {
    let broken = |error| Fault::broken(format!("a value cannot be written as JSON: {error}"));
    let text = serde_json::to_string(value).map_err(broken)?;
    if !text.contains("\\u0000") {
        return Ok(text);
    }
    let document = serde_json::from_str(&text).map_err(broken)?;
    Ok(held_document(document).to_string())
}

fn held_document(value: Value) -> Value {
    match value {
        Value::String(text) if !holdable(&text) => Value::String(held(&text)),
        Value::Array(items) => Value::Array(items.into_iter().map(held_document).collect()),
        Value::Object(members) => Value::Object(
            members.into_iter().map(|(key, value)| (held(&key), held_document(value))).collect(),
        ),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_lose_their_nuls_wherever_they_are() {
        let document = json!({"a\0": ["b\0c", {"d": "\0"}, 1, null], "e": "f"});
        let held = json!({"a\u{FFFD}": ["b\u{FFFD}c", {"d": "\u{FFFD}"}, 1, null], "e": "f"});
        assert_eq!(held_json(&document).unwrap(), held.to_string());
        let without = json!({"a": "\\u0000", "b": [1, "c"]});
        assert_eq!(held_json(&without).unwrap(), without.to_string());
    }
}
