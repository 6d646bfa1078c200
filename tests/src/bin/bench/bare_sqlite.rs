//! Bare loops with rusqlite.

use std::path::Path;

use anyhow::Result;
use async_trait::async_trait;
use dispatcher_api::runs::model::NewRun;
use rusqlite::{Connection, Row, params};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    bare::Bare,
    large::{HOSTS, LARGE, LOG, PAGE as ROWS, RUNS_WITH_HOSTS, SERVICES, WITH_HOSTS, Wanted},
    rows,
};

const RUN: &str = "INSERT INTO runs (id, org_id, recipient, correlation_id, url, labels, status, \
    timeout, service, playbook_name, playbook_run_url, principal, response_full, created_at, \
    updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, 'running', ?7, ?8, ?9, ?10, ?11, 1, ?12, ?12)";
const WORK: &str = "INSERT INTO run_work (run_id, recipient, org_id, created_at, expires_at) \
    VALUES (?1, ?2, ?3, ?4, ?5)";
const SEQUENCE: &str = "INSERT INTO run_sequence (run_id, last) VALUES (?1, 1)";
const EVENT: &str = "INSERT INTO outbox (run_id, run_seq, entity, entity_id, event_type, org_id, \
    service, status, payload, created_at) \
    VALUES (?1, 1, 'run', ?1, 'create', ?2, ?3, 'running', ?4, ?5)";
const PAGE: &str = "SELECT id, org_id, recipient, correlation_id, url, labels, status, timeout, \
    service, playbook_name, playbook_run_url, created_at, updated_at FROM runs WHERE org_id = ?1 \
    ORDER BY created_at DESC, id LIMIT 50 OFFSET ?2";
const SEED: &str = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ?1) \
    INSERT INTO runs (id, org_id, recipient, correlation_id, url, labels, status, timeout, service, \
    created_at, updated_at) SELECT randomblob(16), 'org-' || (i % ?2), randomblob(16), \
    randomblob(16), 'https://playbooks.example.org/update.yml', '{\"ring\":\"3\"}', 'success', 3600, \
    'remediations', 1700000000000000 + i * 1000, 1700000000000000 + i * 1000 FROM n";

const SEED_LARGE: &str = "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n \
    WHERE i + 1 < ?1) INSERT INTO runs (id, org_id, recipient, correlation_id, url, labels, status, \
    timeout, service, created_at, updated_at) SELECT randomblob(16), ?2, randomblob(16), \
    randomblob(16), 'https://playbooks.example.org/update.yml', \
    json_object('ring', CAST(i % 10 AS TEXT), 'site', CAST(i % 1000 AS TEXT)), \
    CASE WHEN i % 7 = 0 THEN 'failure' ELSE 'success' END, 3600, ?3 ->> (i % 3), \
    1700000000000000 + i * 1000, 1700000000000000 + i * 1000 FROM n";
const SEED_HOSTS: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n \
    WHERE i < ?2) INSERT INTO run_hosts (id, run_id, host, status, log, created_at, updated_at) \
    SELECT randomblob(16), r.id, 'host-' || n.i, 'success', ?3, r.created_at, r.created_at \
    FROM runs AS r, n WHERE r.org_id = ?1";
const HOST_PAGE: &str = "SELECT h.id, h.run_id, h.inventory_id, h.host, h.status, h.created_at, \
    h.log FROM runs AS r CROSS JOIN run_hosts AS h ON h.run_id = r.id WHERE r.org_id = ?1 \
    AND (?4 IS NULL OR r.id = ?4) ORDER BY h.id LIMIT ?2 OFFSET ?3";
const HOST_COUNT: &str = "SELECT count(*) FROM runs AS r CROSS JOIN run_hosts AS h \
    ON h.run_id = r.id WHERE r.org_id = ?1 AND (?2 IS NULL OR r.id = ?2)";
const RUN_COLUMNS: &str = "id, org_id, recipient, correlation_id, url, labels, status, timeout, \
    service, playbook_name, playbook_run_url, created_at, updated_at";

/// A connection of its own to the same file.
pub(crate) struct Sqlite(Connection);

impl Sqlite {
    /// Opens the file that the store has made, as durable as the store has it.
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let name = dispatcher_api::store::sqlite::FILE_NAME;
        let connection = Connection::open(directory.join(name))?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.busy_timeout(std::time::Duration::from_secs(10))?;
        Ok(Self(connection))
    }
}

fn micros(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1000).unwrap_or_default()
}

type Run = (
    (Uuid, String, Uuid, Uuid, String, String),
    (String, i32, String, Option<String>, Option<String>, i64, i64),
);

fn read(row: &Row<'_>) -> rusqlite::Result<Run> {
    let text = (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?);
    let rest = (
        row.get(6)?,
        row.get(7)?,
        row.get(8)?,
        row.get(9)?,
        row.get(10)?,
        row.get(11)?,
        row.get(12)?,
    );
    Ok((text, rest))
}

#[async_trait]
impl Bare for Sqlite {
    async fn dispatch(&mut self, runs: &[NewRun]) -> Result<()> {
        let transaction = self.0.transaction()?;
        for run in runs {
            let (labels, at) = (rows::labels(&run.labels).to_string(), micros(run.created_at));
            let expires = at + i64::from(run.timeout) * 1_000_000;
            transaction.prepare_cached(RUN)?.execute(params![
                run.id,
                run.org_id,
                run.recipient,
                run.correlation_id,
                run.url,
                labels,
                run.timeout,
                run.service,
                run.name,
                run.web_console_url,
                run.principal,
                at,
            ])?;
            transaction.prepare_cached(WORK)?.execute(params![
                run.id,
                run.recipient,
                run.org_id,
                at,
                expires
            ])?;
            transaction.prepare_cached(SEQUENCE)?.execute(params![run.id])?;
            let payload = rows::event(run).to_string();
            transaction.prepare_cached(EVENT)?.execute(params![
                run.id,
                run.org_id,
                run.service,
                payload,
                at
            ])?;
        }
        Ok(transaction.commit()?)
    }

    async fn append(&mut self, run: Uuid, start: i64, next: i64, data: &[u8]) -> Result<()> {
        let transaction = self.0.transaction()?;
        transaction
            .prepare_cached(
                "INSERT INTO run_output (run_id, start_byte, data) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![run, start, data])?;
        transaction
            .prepare_cached(
                "UPDATE run_work SET next_counter = ?2, output_bytes = ?3, lease_until = ?4 \
                 WHERE run_id = ?1",
            )?
            .execute(params![run, next, start + i64::try_from(data.len())?, micros(rows::now())])?;
        Ok(transaction.commit()?)
    }

    async fn list(&mut self, org: &str, offset: i64) -> Result<i64> {
        let mut page = self.0.prepare_cached(PAGE)?;
        let _rows = page.query_map(params![org, offset], read)?.collect::<Result<Vec<_>, _>>()?;
        let mut count = self.0.prepare_cached("SELECT count(*) FROM runs WHERE org_id = ?1")?;
        Ok(count.query_row([org], |row| row.get(0))?)
    }

    async fn seed(&mut self, runs: i64, orgs: i64) -> Result<()> {
        self.0.execute(SEED, params![runs, orgs])?;
        Ok(self.0.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?)
    }

    async fn seed_large(&mut self, runs: i64) -> Result<()> {
        let services = serde_json::to_string(&SERVICES)?;
        for (org, runs) in [(LARGE, runs), (WITH_HOSTS, RUNS_WITH_HOSTS)] {
            self.0.execute(SEED_LARGE, params![runs, org, services])?;
        }
        self.0.execute(SEED_HOSTS, params![WITH_HOSTS, HOSTS, "x".repeat(LOG)])?;
        Ok(self.0.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?)
    }

    async fn filtered(&mut self, wanted: Wanted, offset: i64) -> Result<i64> {
        let mut matching = "FROM runs WHERE org_id = ?1".to_owned();
        if let Some(status) = wanted.status {
            matching.push_str(&format!(" AND status = '{status}'"));
        }
        if let Some(service) = wanted.service {
            matching.push_str(&format!(" AND service = '{service}'"));
        }
        if let Some((key, value)) = wanted.label {
            matching.push_str(&format!(" AND labels ->> '{key}' = '{value}'"));
        }
        let page = format!(
            "SELECT {RUN_COLUMNS} {matching} ORDER BY created_at DESC, id LIMIT ?2 OFFSET ?3"
        );
        let mut page = self.0.prepare_cached(&page)?;
        let rows = page.query_map(params![LARGE, ROWS, offset], read)?;
        let _rows = rows.collect::<Result<Vec<_>, _>>()?;
        let mut count = self.0.prepare_cached(&format!("SELECT count(*) {matching}"))?;
        Ok(count.query_row([LARGE], |row| row.get(0))?)
    }

    async fn a_run_with_hosts(&mut self) -> Result<Uuid> {
        let run = "SELECT id FROM runs WHERE org_id = ?1 ORDER BY id LIMIT 1";
        Ok(self.0.query_row(run, [WITH_HOSTS], |row| row.get(0))?)
    }

    async fn hosts(&mut self, run: Option<Uuid>, offset: i64) -> Result<i64> {
        let mut page = self.0.prepare_cached(HOST_PAGE)?;
        let rows = page.query_map(params![WITH_HOSTS, ROWS, offset, run], |row| {
            Ok((row.get::<_, Uuid>(0)?, row.get::<_, Option<Uuid>>(2)?, row.get::<_, String>(6)?))
        })?;
        let _rows = rows.collect::<Result<Vec<_>, _>>()?;
        let mut count = self.0.prepare_cached(HOST_COUNT)?;
        Ok(count.query_row(params![WITH_HOSTS, run], |row| row.get(0))?)
    }
}
