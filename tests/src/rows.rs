//! What lies in a SQLite database, read beside the service that writes it.

use std::{collections::BTreeMap, path::Path};

use anyhow::Result;
use rusqlite::{Connection, types::FromSql};

/// Every table whose rows a request can change.
const TABLES: [&str; 10] = [
    "runs",
    "run_hosts",
    "run_work",
    "run_output",
    "run_dispatch",
    "run_error",
    "outbox",
    "idempotency",
    "uploads",
    "playbooks",
];

/// How many rows each table has.
///
/// # Errors
/// When the database cannot be read.
pub fn counts(database: &Path) -> Result<BTreeMap<&'static str, i64>> {
    let database = Connection::open(database)?;
    let count = |table: &'static str| {
        let sql = format!("SELECT count(*) FROM {table}");
        Ok((table, database.query_row(&sql, [], |row| row.get(0))?))
    };
    TABLES.into_iter().map(count).collect()
}

/// The one value that a query finds.
///
/// # Errors
/// When there is none.
pub fn value<T: FromSql>(database: &Path, sql: &str) -> Result<T> {
    Ok(Connection::open(database)?.query_row(sql, [], |row| row.get(0))?)
}

/// Changes rows behind the service's back.
///
/// # Errors
/// When the statement fails.
pub fn change(database: &Path, sql: &str) -> Result<usize> {
    Ok(Connection::open(database)?.execute(sql, [])?)
}
