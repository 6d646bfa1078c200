//! Bare loops with tokio-postgres.

use anyhow::Result;
use async_trait::async_trait;
use dispatcher_api::runs::model::NewRun;
use time::OffsetDateTime;
use tokio_postgres::{Client, NoTls, Row, Statement};
use uuid::Uuid;

use crate::{
    bare::Bare,
    large::{HOSTS, LARGE, LOG, PAGE as ROWS, RUNS_WITH_HOSTS, SERVICES, WITH_HOSTS, Wanted},
    rows,
};

const RUN: &str = "INSERT INTO runs (id, org_id, recipient, correlation_id, url, labels, status, \
    timeout, service, playbook_name, playbook_run_url, principal, response_full, created_at, \
    updated_at) VALUES ($1, $2, $3, $4, $5, $6, 'running', $7, $8, $9, $10, $11, true, $12, $12)";
const WORK: &str = "INSERT INTO run_work (run_id, recipient, org_id, created_at, expires_at, state) \
    VALUES ($1, $2, $3, $4, $5, 0)";
const SEQUENCE: &str = "INSERT INTO run_sequence (run_id, last) VALUES ($1, 1)";
const EVENT: &str = "INSERT INTO outbox (run_id, run_seq, entity, entity_id, event_type, org_id, \
    service, status, payload, created_at) \
    VALUES ($1, 1, 'run', $1, 'create', $2, $3, 'running', $4, $5)";
const OUTPUT: &str = "INSERT INTO run_output (run_id, start_byte, data) VALUES ($1, $2, $3)";
const PROGRESS: &str = "UPDATE run_work SET next_counter = $2, output_bytes = $3, lease_until = $4 \
    WHERE run_id = $1";
const PAGE: &str = "SELECT id, org_id, recipient, correlation_id, url, labels, status::text, \
    timeout, service, playbook_name, playbook_run_url, created_at, updated_at FROM runs \
    WHERE org_id = $1 ORDER BY created_at DESC, id LIMIT 50 OFFSET $2";
const COUNT: &str = "SELECT count(*) FROM runs WHERE org_id = $1";
const SEED: &str = "INSERT INTO runs (id, org_id, recipient, correlation_id, url, labels, status, \
    timeout, service, created_at, updated_at) SELECT gen_random_uuid(), 'org-' || (i % $2::bigint), \
    gen_random_uuid(), gen_random_uuid(), 'https://playbooks.example.org/update.yml', \
    '{\"ring\":\"3\"}', 'success', 3600, 'remediations', \
    'epoch'::timestamptz + i * interval '1 millisecond', \
    'epoch'::timestamptz + i * interval '1 millisecond' FROM generate_series(0, $1::bigint - 1) i";

const RUN_COLUMNS: &str = "id, org_id, recipient, correlation_id, url, labels, status::text, \
    timeout, service, playbook_name, playbook_run_url, created_at, updated_at";
const SEED_LARGE: &str = "INSERT INTO runs (id, org_id, recipient, correlation_id, url, labels, \
    status, timeout, service, created_at, updated_at) SELECT gen_random_uuid(), $2, \
    gen_random_uuid(), gen_random_uuid(), 'https://playbooks.example.org/update.yml', \
    jsonb_build_object('ring', (i % 10)::text, 'site', (i % 1000)::text), \
    (CASE WHEN i % 7 = 0 THEN 'failure' ELSE 'success' END)::runs_status, 3600, \
    ($3::text[])[1 + i % 3], 'epoch'::timestamptz + i * interval '1 millisecond', \
    'epoch'::timestamptz + i * interval '1 millisecond' FROM generate_series(0, $1::bigint - 1) i";
const SEED_HOSTS: &str = "INSERT INTO run_hosts (id, run_id, host, status, log, created_at, \
    updated_at) SELECT gen_random_uuid(), r.id, 'host-' || h, 'success', repeat($3, $4 / \
    length($3)), r.created_at, r.created_at FROM runs r, generate_series(1, $2::bigint) h \
    WHERE r.org_id = $1";
const HOST_PAGE: &str = "SELECT h.id, h.run_id, h.inventory_id, h.host, h.status::text, \
    h.created_at, h.log FROM run_hosts h JOIN runs r ON r.id = h.run_id WHERE r.org_id = $1 AND \
    ($4::uuid IS NULL OR r.id = $4) ORDER BY h.id LIMIT $2 OFFSET $3";
const HOST_COUNT: &str = "SELECT count(*) FROM run_hosts h JOIN runs r ON r.id = h.run_id \
    WHERE r.org_id = $1 AND ($2::uuid IS NULL OR r.id = $2)";

const PRINTED: &str = "ok: [host-17.example.org] => (item=a package of usual length.)\n ";

/// A connection of its own to the same database, with its statements prepared.
pub(crate) struct Postgres {
    client: Client,
    run: Statement,
    work: Statement,
    sequence: Statement,
    event: Statement,
    output: Statement,
    progress: Statement,
    page: Statement,
    count: Statement,
}

impl Postgres {
    /// Connects as the store does.
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(connection);
        Ok(Self {
            run: client.prepare(RUN).await?,
            work: client.prepare(WORK).await?,
            sequence: client.prepare(SEQUENCE).await?,
            event: client.prepare(EVENT).await?,
            output: client.prepare(OUTPUT).await?,
            progress: client.prepare(PROGRESS).await?,
            page: client.prepare(PAGE).await?,
            count: client.prepare(COUNT).await?,
            client,
        })
    }
}

fn read(row: &Row) -> Result<()> {
    let _: (Uuid, String, Uuid) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let _: (Uuid, String) = (row.try_get(3)?, row.try_get(4)?);
    let _: (serde_json::Value, String, i32) = (row.try_get(5)?, row.try_get(6)?, row.try_get(7)?);
    let _: (String, Option<String>) = (row.try_get(8)?, row.try_get(9)?);
    let _: (Option<String>, OffsetDateTime) = (row.try_get(10)?, row.try_get(11)?);
    let _: OffsetDateTime = row.try_get(12)?;
    Ok(())
}

#[async_trait]
impl Bare for Postgres {
    async fn dispatch(&mut self, runs: &[NewRun]) -> Result<()> {
        let transaction = self.client.transaction().await?;
        for run in runs {
            let (labels, at) = (rows::labels(&run.labels), run.created_at);
            let expires = at + time::Duration::seconds(i64::from(run.timeout));
            transaction
                .execute(
                    &self.run,
                    &[
                        &run.id,
                        &run.org_id,
                        &run.recipient,
                        &run.correlation_id,
                        &run.url,
                        &labels,
                        &run.timeout,
                        &run.service,
                        &run.name,
                        &run.web_console_url,
                        &run.principal,
                        &at,
                    ],
                )
                .await?;
            transaction
                .execute(&self.work, &[&run.id, &run.recipient, &run.org_id, &at, &expires])
                .await?;
            transaction.execute(&self.sequence, &[&run.id]).await?;
            transaction
                .execute(&self.event, &[&run.id, &run.org_id, &run.service, &rows::event(run), &at])
                .await?;
        }
        Ok(transaction.commit().await?)
    }

    async fn append(&mut self, run: Uuid, start: i64, next: i64, data: &[u8]) -> Result<()> {
        let end = start + i64::try_from(data.len())?;
        let transaction = self.client.transaction().await?;
        transaction.execute(&self.output, &[&run, &start, &data]).await?;
        transaction.execute(&self.progress, &[&run, &next, &end, &rows::now()]).await?;
        Ok(transaction.commit().await?)
    }

    async fn list(&mut self, org: &str, offset: i64) -> Result<i64> {
        for row in self.client.query(&self.page, &[&org, &offset]).await? {
            read(&row)?;
        }
        Ok(self.client.query_one(&self.count, &[&org]).await?.try_get(0)?)
    }

    async fn seed(&mut self, runs: i64, orgs: i64) -> Result<()> {
        self.client.execute(SEED, &[&runs, &orgs]).await?;
        Ok(self.client.batch_execute("VACUUM ANALYZE runs").await?)
    }

    async fn seed_large(&mut self, runs: i64) -> Result<()> {
        let services = SERVICES.as_slice();
        for (org, runs) in [(LARGE, runs), (WITH_HOSTS, RUNS_WITH_HOSTS)] {
            self.client.execute(SEED_LARGE, &[&runs, &org, &services]).await?;
        }
        let size = i32::try_from(LOG)?;
        self.client.execute(SEED_HOSTS, &[&WITH_HOSTS, &HOSTS, &PRINTED, &size]).await?;
        self.client.batch_execute("VACUUM ANALYZE runs").await?;
        Ok(self.client.batch_execute("VACUUM ANALYZE run_hosts").await?)
    }

    async fn filtered(&mut self, wanted: Wanted, offset: i64) -> Result<i64> {
        let mut matching = "FROM runs WHERE org_id = $1".to_owned();
        if let Some(status) = wanted.status {
            matching.push_str(&format!(" AND status = '{status}'"));
        }
        if let Some(service) = wanted.service {
            matching.push_str(&format!(" AND service = '{service}'"));
        }
        if let Some((key, value)) = wanted.label {
            matching.push_str(&format!(" AND labels @> '{{\"{key}\": \"{value}\"}}'"));
        }
        let page = format!(
            "SELECT {RUN_COLUMNS} {matching} ORDER BY created_at DESC, id LIMIT $2 OFFSET $3"
        );
        for row in self.client.query(&page, &[&LARGE, &ROWS, &offset]).await? {
            read(&row)?;
        }
        let count = format!("SELECT count(*) {matching}");
        Ok(self.client.query_one(&count, &[&LARGE]).await?.try_get(0)?)
    }

    async fn a_run_with_hosts(&mut self) -> Result<Uuid> {
        let run = "SELECT id FROM runs WHERE org_id = $1 ORDER BY id LIMIT 1";
        Ok(self.client.query_one(run, &[&WITH_HOSTS]).await?.try_get(0)?)
    }

    async fn hosts(&mut self, run: Option<Uuid>, offset: i64) -> Result<i64> {
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&WITH_HOSTS, &ROWS, &offset, &run];
        for row in self.client.query(HOST_PAGE, &params).await? {
            let _: (Uuid, Option<Uuid>, String) =
                (row.try_get(0)?, row.try_get(2)?, row.try_get(6)?);
        }
        Ok(self.client.query_one(HOST_COUNT, &[&WITH_HOSTS, &run]).await?.try_get(0)?)
    }
}
