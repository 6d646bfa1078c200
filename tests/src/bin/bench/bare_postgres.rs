//! Bare loops with tokio-postgres.

use anyhow::Result;
use async_trait::async_trait;
use dispatcher_api::runs::model::NewRun;
use time::OffsetDateTime;
use tokio_postgres::{Client, NoTls, Row, Statement};
use uuid::Uuid;

use crate::{bare::Bare, rows};

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
}
