//! How values stand in SQLite, and how rows of the contract's tables are read.

use std::borrow::Cow;

use dispatcher_wire::RunStatus;
use rusqlite::{
    Row, ToSql,
    types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef},
};
use serde::{Serialize, de::DeserializeOwned};
use time::OffsetDateTime;

use super::super::{StoreError, StoreResult};
use crate::runs::model::{RunHostRow, RunRow};

/// A time: microseconds of UTC.
#[derive(Clone, Copy)]
pub(super) struct At(pub(super) OffsetDateTime);

impl At {
    /// The clock of this process, which is the database's clock too.
    pub(super) fn now() -> Self {
        Self(OffsetDateTime::now_utc())
    }
}

impl ToSql for At {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        let micros = self.0.unix_timestamp_nanos().div_euclid(1000);
        let micros = i64::try_from(micros)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
        Ok(micros.into())
    }
}

impl FromSql for At {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let nanos = i128::from(i64::column_result(value)?) * 1000;
        let at = OffsetDateTime::from_unix_timestamp_nanos(nanos);
        at.map(Self).map_err(|error| FromSqlError::Other(Box::new(error)))
    }
}

/// A state, by name.
pub(super) struct State(pub(super) RunStatus);

impl ToSql for State {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.as_str().into())
    }
}

impl FromSql for State {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let name = value.as_str()?;
        let unknown = || FromSqlError::Other(format!("{name:?} is no state of a run").into());
        RunStatus::parse(name).map(Self).ok_or_else(unknown)
    }
}

/// Text as PostgreSQL could hold it too, so that both databases answer alike.
pub(super) fn without_nul(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{FFFD}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// JSON text for a column.
pub(super) fn to_json(value: &impl Serialize) -> StoreResult<String> {
    serde_json::to_string(value)
        .map_err(|error| StoreError::Failed(format!("a value cannot be written as JSON: {error}")))
}

/// The value of a column's JSON text.
pub(super) fn from_json<T: DeserializeOwned>(text: &str) -> StoreResult<T> {
    serde_json::from_str(text)
        .map_err(|error| StoreError::Failed(format!("stored JSON cannot be read: {error}")))
}

/// The columns of `runs AS r` that [`run`] reads.
pub(super) const RUN: &str = "r.id, r.org_id, r.recipient, r.correlation_id, r.url, r.labels, \
     r.status, r.timeout, r.service, r.playbook_name, r.playbook_run_url, r.principal, r.sat_id, \
     r.sat_org_id, r.response_full, r.created_at, r.updated_at";

/// Reads a run.
pub(super) fn run(row: &Row<'_>) -> StoreResult<RunRow> {
    Ok(RunRow {
        id: row.get(0)?,
        org_id: row.get(1)?,
        recipient: row.get(2)?,
        correlation_id: row.get(3)?,
        url: row.get(4)?,
        labels: from_json(row.get_ref(5)?.as_str().map_err(rusqlite::Error::from)?)?,
        status: row.get::<_, State>(6)?.0,
        timeout: row.get(7)?,
        service: row.get(8)?,
        name: row.get(9)?,
        web_console_url: row.get(10)?,
        principal: row.get(11)?,
        sat_id: row.get(12)?,
        sat_org_id: row.get(13)?,
        response_full: row.get(14)?,
        created_at: row.get::<_, At>(15)?.0,
        updated_at: row.get::<_, At>(16)?.0,
    })
}

/// The columns of `run_hosts AS h` that [`host`] reads, without the log.
pub(super) const HOST: &str =
    "h.id, h.run_id, h.inventory_id, h.host, h.status, h.created_at, h.updated_at";

/// Reads a run host; its log stays empty.
pub(super) fn host(row: &Row<'_>) -> StoreResult<RunHostRow> {
    Ok(RunHostRow {
        id: row.get(0)?,
        run_id: row.get(1)?,
        inventory_id: row.get(2)?,
        host: row.get(3)?,
        status: row.get::<_, State>(4)?.0,
        log: String::new(),
        created_at: row.get::<_, At>(5)?.0,
        updated_at: row.get::<_, At>(6)?.0,
    })
}

/// Collects rows of a query.
pub(super) fn collect<T>(
    mut rows: rusqlite::Rows<'_>,
    read: impl Fn(&Row<'_>) -> StoreResult<T>,
) -> StoreResult<Vec<T>> {
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(row)?);
    }
    Ok(found)
}

/// The first row of a query, if there is one.
pub(super) fn first<T>(
    mut rows: rusqlite::Rows<'_>,
    read: impl Fn(&Row<'_>) -> StoreResult<T>,
) -> StoreResult<Option<T>> {
    rows.next()?.map(read).transpose()
}
