//! The original at work on a PostgreSQL database: the rows it writes, the statements it lives by, and
//! everything of the schema that it or what reads its tables may depend on.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio_postgres::Client;
use uuid::Uuid;

/// The schema as its sixteen migrations leave it.
pub const SCHEMA: &str = include_str!("../../api/migrations/postgres/V1__contract_tables.sql");

/// The tables that are its own.
const TABLES: &str = "('runs', 'run_hosts', 'schema_migrations')";

/// The original.
pub struct Original(Client);

/// A run as it dispatches it.
#[derive(Clone, Debug)]
pub struct Dispatched {
    /// The run.
    pub id: Uuid,
    /// Its organisation.
    pub org_id: String,
    /// What uploads know it by.
    pub correlation_id: Uuid,
    /// When.
    pub created_at: OffsetDateTime,
    /// Seconds.
    pub timeout: i32,
    /// The Satellite it goes through.
    pub sat_id: Option<Uuid>,
    /// Whether uploads of that carry everything so far.
    pub response_full: bool,
    /// Its hosts: id in Inventory, and name.
    pub hosts: Vec<(Option<Uuid>, String)>,
}

impl Dispatched {
    /// A run that begins now, without hosts.
    #[must_use]
    pub fn new(org_id: &str) -> Self {
        Self {
            id: Uuid::new_v4(),
            org_id: org_id.to_owned(),
            correlation_id: Uuid::new_v4(),
            created_at: OffsetDateTime::now_utc().truncate_to_microsecond(),
            timeout: 3600,
            sat_id: None,
            response_full: true,
            hosts: Vec::new(),
        }
    }
}

impl Original {
    /// On this database.
    #[must_use]
    pub const fn on(client: Client) -> Self {
        Self(client)
    }

    /// Its connection.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.0
    }

    /// What it does before anything else: looks whether its schema is at its version. The version, and
    /// whether a migration was interrupted.
    ///
    /// # Errors
    /// When that cannot be found out.
    pub async fn bookkeeping(&self) -> Result<Vec<(i64, bool)>> {
        const BEGIN: &str = "
            SELECT pg_advisory_lock(4711);
            CREATE TABLE IF NOT EXISTS schema_migrations
                (version bigint NOT NULL PRIMARY KEY, dirty boolean NOT NULL);
            SELECT pg_advisory_unlock(4711)";
        self.0.batch_execute(BEGIN).await?;
        let rows = self.0.query("SELECT version, dirty FROM schema_migrations", &[]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// Dispatches a run: it and its hosts, one row after the other, in one transaction.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn dispatch(&mut self, run: &Dispatched) -> Result<()> {
        const RUN: &str = "
            INSERT INTO runs (id, org_id, service, recipient, correlation_id, url, status, labels,
                              playbook_name, playbook_run_url, principal, sat_id, sat_org_id,
                              created_at, updated_at, timeout, response_full)
            VALUES ($1, $2, 'remediations', $3, $4, 'https://example.com/theirs.yml', 'running',
                    '{\"by\": \"the original\"}', 'theirs', 'https://console.example.com', 'jane',
                    $5, $6, $7, $7, $8, $9)";
        const HOST: &str = "
            INSERT INTO run_hosts (id, run_id, inventory_id, host, status, log, created_at, updated_at)
            VALUES ($1, $2, $3, $4, 'running', '', $5, $5)";
        let Dispatched { id, org_id, correlation_id, created_at, timeout, .. } = run;
        let sat_org = run.sat_id.map(|_| "5");
        let transaction = self.0.transaction().await?;
        transaction
            .execute(
                RUN,
                &[
                    id,
                    org_id,
                    &Uuid::new_v4(),
                    correlation_id,
                    &run.sat_id,
                    &sat_org,
                    created_at,
                    timeout,
                    &run.response_full,
                ],
            )
            .await?;
        for (inventory_id, name) in &run.hosts {
            let row = Uuid::new_v4();
            transaction.execute(HOST, &[&row, id, inventory_id, name, created_at]).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Applies what a host has reported: the run unless it succeeded or failed, its hosts likewise.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn report(&self, run: Uuid, status: &str, hosts: &[&str], log: &str) -> Result<()> {
        const RUN: &str = "
            UPDATE runs SET events = $3, status = $2::text::runs_status, updated_at = now()
            WHERE id = $1 AND status NOT IN ('success', 'failure')";
        const HOST: &str = "
            INSERT INTO run_hosts (id, run_id, host, status, log, created_at, updated_at)
            VALUES ($1, $2, $3, $4::text::runs_status, $5, now(), now())
            ON CONFLICT (run_id, host) DO UPDATE SET status = excluded.status, log = excluded.log
            WHERE run_hosts.status NOT IN ('success', 'failure')";
        let events = json!([{ "event": "executor_on_start", "uuid": "u", "counter": -1 }]);
        self.0.execute(RUN, &[&run, &status, &events]).await?;
        for host in hosts {
            self.0.execute(HOST, &[&Uuid::new_v4(), &run, host, &status, &log]).await?;
        }
        Ok(())
    }

    /// Applies what a Satellite has said of a host: output up to a sequence.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn printed(
        &self,
        run: Uuid,
        inventory_id: Uuid,
        sequence: i16,
        text: &str,
    ) -> Result<u64> {
        const HOST: &str = "
            UPDATE run_hosts SET log = log || $4::text, sat_sequence = $3, updated_at = now()
            WHERE run_id = $1 AND inventory_id = $2
              AND (sat_sequence IS NULL OR sat_sequence < $3)";
        Ok(self.0.execute(HOST, &[&run, &inventory_id, &sequence, &text]).await?)
    }

    /// Ends what has expired; how many runs, and how many hosts.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn clean(&self) -> Result<(u64, u64)> {
        const RUNS: &str = "
            UPDATE runs SET status = 'timeout', updated_at = now()
            WHERE status = 'running' AND created_at + timeout * interval '1 second' <= now()";
        const HOSTS: &str = "
            UPDATE run_hosts SET status = 'timeout', updated_at = now()
            WHERE status = 'running'
              AND run_id IN (SELECT id FROM runs WHERE status = 'timeout')";
        Ok((self.0.execute(RUNS, &[]).await?, self.0.execute(HOSTS, &[]).await?))
    }

    /// Lists runs of an organisation with these labels, newest first: state and name of each.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn listed(&self, org_id: &str, labels: &Value) -> Result<Vec<(String, String)>> {
        const RUNS: &str = "
            SELECT CASE WHEN status = 'running'
                             AND created_at + timeout * interval '1 second' <= now()
                        THEN 'timeout' ELSE status::text END, playbook_name
            FROM runs WHERE org_id = $1 AND labels @> $2 ORDER BY created_at DESC, id LIMIT 50";
        let rows = self.0.query(RUNS, &[&org_id, labels]).await?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    /// Every row of its tables, as text.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn rows(&self) -> Result<Vec<String>> {
        const ROWS: &str = "
            SELECT 'run ' || to_jsonb(r)::text FROM runs r
            UNION ALL SELECT 'host ' || to_jsonb(h)::text FROM run_hosts h
            UNION ALL SELECT 'schema ' || to_jsonb(s)::text FROM schema_migrations s ORDER BY 1";
        Ok(self.0.query(ROWS, &[]).await?.iter().map(|row| row.get(0)).collect())
    }

    /// One value.
    ///
    /// # Errors
    /// When there is none.
    pub async fn text(&self, sql: &str) -> Result<String> {
        self.0.query_one(sql, &[]).await?.try_get(0).with_context(|| sql.to_owned())
    }

    /// All that the catalog says of its tables and its enumeration, in the physical order of columns;
    /// indexes of ours aside.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn catalog(&self) -> Result<Vec<String>> {
        let sql = format!(
            "WITH own AS (
                 SELECT c.* FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace
                     AND c.relkind IN ('r', 'p', 'v') AND c.relname IN {TABLES})
             SELECT format('%s column %s %s %s not null %s default %s dropped %s', c.relname,
                           lpad(a.attnum::text, 2, '0'), a.attname,
                           format_type(a.atttypid, a.atttypmod), a.attnotnull,
                           pg_get_expr(d.adbin, d.adrelid), a.attisdropped)
             FROM own c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
             LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
             UNION ALL SELECT format('%s constraint %s %s', c.relname, k.conname,
                                     pg_get_constraintdef(k.oid))
             FROM own c JOIN pg_constraint k ON k.conrelid = c.oid
             UNION ALL SELECT format('%s index %s valid %s', c.relname, pg_get_indexdef(i.indexrelid),
                                     i.indisvalid)
             FROM own c JOIN pg_index i ON i.indrelid = c.oid
             WHERE i.indexrelid::regclass::text NOT LIKE 'dispatcher%'
             UNION ALL SELECT format('%s kind %s replica identity %s persistence %s security %s
                                     options %s privileges %s', c.relname, c.relkind, c.relreplident,
                                     c.relpersistence, c.relrowsecurity, c.reloptions, c.relacl)
             FROM own c
             UNION ALL SELECT format('%s trigger %s', c.relname, t.tgname)
             FROM own c JOIN pg_trigger t ON t.tgrelid = c.oid AND NOT t.tgisinternal
             UNION ALL SELECT format('%s rule %s', c.relname, r.rulename)
             FROM own c JOIN pg_rewrite r ON r.ev_class = c.oid
             UNION ALL SELECT format('runs_status %s %s', enumsortorder, enumlabel) FROM pg_enum
             WHERE enumtypid = 'runs_status'::regtype
             UNION ALL SELECT format('version %s dirty %s', version, dirty) FROM schema_migrations
             ORDER BY 1"
        );
        Ok(self.0.query(&sql, &[]).await?.iter().map(|row| row.get(0)).collect())
    }
}
