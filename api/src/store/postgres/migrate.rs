//! Migrations: one at a time among all instances, each step complete or not at all, repeatable.
//!
//! `migrate up` brings a database to the newest schema; `migrate down` takes away what is ours and
//! leaves the schema of Playbook Dispatcher for itself; `migrate down-all` leaves nothing. Indexes on
//! the contract's tables come after the migrations and are built while others write.

use std::time::{Duration, Instant};

use deadpool_postgres::GenericClient;
use refinery::Target;
use tokio_postgres::Client;

use super::{
    PostgresStore,
    adopt::{self, HISTORY, SIDE_TABLES, Start},
    connection::one,
    fault::Fault,
    servers::Servers,
};
use crate::{config::database::Postgres, store::StoreError};

mod embedded {
    refinery::embed_migrations!("migrations/postgres");
}

/// The lock that only one migrating process holds; any number that is ours.
const LOCK: i64 = 0x0064_6973_7061_7463;
/// How long to wait for it. Building an index on a large table takes a while.
const LOCK_PATIENCE: Duration = Duration::from_secs(900);
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// Indexes on tables that may be large already: newest runs of an organisation, runs that can
/// expire, runs that are over by their end, hosts that can expire, events that no broker has yet,
/// events of an organisation in the order of the feed.
const INDEXES: [(&str, &str); 6] = [
    ("dispatcher_runs_org_created_index", "runs (org_id, created_at DESC, id)"),
    ("dispatcher_runs_running_index", "runs (created_at, id) WHERE status = 'running'"),
    ("dispatcher_runs_final_index", "runs (updated_at, id) WHERE status <> 'running'"),
    ("dispatcher_run_hosts_running_index", "run_hosts (run_id) WHERE status = 'running'"),
    ("dispatcher_outbox_unpublished_index", "outbox (id) WHERE published_at IS NULL"),
    ("dispatcher_outbox_feed_index", "outbox (org_id, tx, id)"),
];

/// A database that was restored on another server has events of transactions that are still to come
/// there, and nobody would see them: they become the first ones. The newest event tells.
const RESTORED: &str = "
    WITH next AS (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS tx),
         is_restored AS (
             SELECT FROM (SELECT tx FROM outbox ORDER BY id DESC LIMIT 1) newest, next
             WHERE newest.tx >= next.tx),
         horizon AS (UPDATE outbox_horizon SET tx = 0 WHERE EXISTS (SELECT FROM is_restored))
    UPDATE outbox SET tx = 0 WHERE EXISTS (SELECT FROM is_restored)";

/// Why a database was not migrated.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// It failed, or cannot be reached.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is not ours to touch: what was found, and what to do.
    #[error("{0}")]
    Refused(String),
}

impl From<Fault> for MigrateError {
    fn from(fault: Fault) -> Self {
        Self::Store(fault.into())
    }
}

impl From<tokio_postgres::Error> for MigrateError {
    fn from(error: tokio_postgres::Error) -> Self {
        Fault::from(error).into()
    }
}

impl From<refinery::Error> for MigrateError {
    fn from(error: refinery::Error) -> Self {
        Self::Store(StoreError::Failed(error.to_string()))
    }
}

/// What migrating did.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Migrated {
    /// Whether the tables of Playbook Dispatcher were adopted.
    pub adopted: bool,
    /// Names of the steps that were applied; none when there was nothing to do.
    pub applied: Vec<String>,
}

impl PostgresStore {
    /// `migrate up`: creates, adopts or upgrades the database. Any number may call it at once.
    ///
    /// # Errors
    /// When it cannot be reached, fails, or is not ours to touch.
    pub async fn migrate(config: &Postgres) -> Result<Migrated, MigrateError> {
        let mut client = locked(config).await?;
        let start = adopt::look(&client).await?.verdict(newest()).map_err(MigrateError::Refused)?;
        if start == Start::Adopt {
            let noted = Target::FakeVersion(1);
            embedded::migrations::runner().set_target(noted).run_async(&mut client).await?;
            dispatcher_worker::crash::point("migrate.adopted");
        }
        let report = embedded::migrations::runner().run_async(&mut client).await?;
        dispatcher_worker::crash::point("migrate.applied");
        let mut applied: Vec<String> =
            report.applied_migrations().iter().map(ToString::to_string).collect();
        for (name, on) in INDEXES {
            if indexed(&client, name, on).await? {
                applied.push(name.to_owned());
            }
            dispatcher_worker::crash::point("migrate.indexed");
        }
        client.batch_execute(RESTORED).await?;
        Ok(Migrated { adopted: start == Start::Adopt, applied })
    }

    /// `migrate down`: drops our side tables, our indexes and our history, in one step. `runs`,
    /// `run_hosts` and `schema_migrations` stay, so that Playbook Dispatcher can go on with them.
    /// What only the side tables knew is lost: unfinished work, output of unfinished runs, the inbox
    /// of uploads, names of stored playbooks, recipients and their keys, unpublished events.
    ///
    /// `false`: there was nothing of ours.
    ///
    /// # Errors
    /// When it cannot be reached, fails, or is neither ours nor Playbook Dispatcher's.
    pub async fn migrate_down(config: &Postgres) -> Result<bool, MigrateError> {
        let client = locked(config).await?;
        let start = adopt::look(&client).await?.verdict(newest()).map_err(MigrateError::Refused)?;
        if start != Start::Continue {
            return Ok(false);
        }
        client.batch_execute(&dropping(&drop_ours())).await?;
        Ok(true)
    }

    /// `migrate down-all`: drops everything, `runs` and `run_hosts` with all they hold and their
    /// bookkeeping among it. What others made in that schema stays. `false`: there was nothing.
    ///
    /// # Errors
    /// When it cannot be reached, fails (where something of others depends on the tables), or is
    /// neither ours nor Playbook Dispatcher's.
    pub async fn migrate_down_all(config: &Postgres) -> Result<bool, MigrateError> {
        const THEIRS: &str = "DROP TABLE run_hosts, runs, schema_migrations; DROP TYPE runs_status";
        let client = locked(config).await?;
        let all =
            match adopt::look(&client).await?.verdict(newest()).map_err(MigrateError::Refused)? {
                Start::Empty => return Ok(false),
                Start::Adopt => THEIRS.to_owned(),
                Start::Continue => format!("{}; {THEIRS}", drop_ours()),
            };
        client.batch_execute(&dropping(&all)).await?;
        Ok(true)
    }
}

/// The last migration that this program knows.
fn newest() -> i32 {
    let runner = embedded::migrations::runner();
    runner.get_migrations().iter().map(|migration| migration.version()).max().unwrap_or_default()
}

/// These statements in one transaction and in the one schema that was looked at; tables of the same
/// names in others are not ours. Nobody is kept waiting behind a lock that is not to be had.
fn dropping(statements: &str) -> String {
    format!(
        "BEGIN; SET LOCAL lock_timeout = '10s';
         SELECT set_config('search_path', quote_ident(current_schema()), true);
         {statements}; COMMIT"
    )
}

/// Takes away what is ours alone.
fn drop_ours() -> String {
    let indexes = INDEXES.map(|(name, _)| name).join(", ");
    let tables = SIDE_TABLES.join(", ");
    format!("DROP INDEX IF EXISTS {indexes}; DROP TABLE IF EXISTS {tables}, {HISTORY}")
}

/// A connection of its own, without limits on statements, that holds the lock until it is dropped.
async fn locked(config: &Postgres) -> Result<Client, MigrateError> {
    // The connection ends with its client.
    let (client, _) = Servers::of(config)?.connect().await.map_err(StoreError::from)?;
    client.batch_execute("SET statement_timeout = 0; SET TIME ZONE 'UTC'").await?;
    let since = Instant::now();
    // Waiting inside the server would hold a snapshot that an index being built waits for.
    while !client.query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK]).await?.try_get(0)? {
        if since.elapsed() > LOCK_PATIENCE {
            let why = "another process is migrating the database, and does not come to an end";
            return Err(StoreError::Unavailable(why.to_owned()).into());
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
    Ok(client)
}

/// Builds an index that is missing, or was left half built. `true`: it was.
async fn indexed(client: &Client, name: &str, on: &str) -> Result<bool, MigrateError> {
    const VALID: &str = "
        SELECT i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
        WHERE c.relname = $1 AND c.relnamespace = current_schema()::regnamespace";
    let valid = client.query_opt(VALID, &[&name]).await?.map(|row| row.try_get(0)).transpose()?;
    if valid == Some(true) {
        return Ok(false);
    }
    if valid == Some(false) {
        client.batch_execute(&format!("DROP INDEX CONCURRENTLY {name}")).await?;
    }
    client.batch_execute(&format!("CREATE INDEX CONCURRENTLY {name} ON {on}")).await?;
    Ok(true)
}

/// Whether the schema is the one this program works with.
pub(super) async fn check(client: &impl GenericClient) -> Result<(), Fault> {
    let unmigrated =
        || Fault::broken("the database is not migrated: run `dispatcher-api migrate up`");
    let newest = Some(newest());
    let there = one(client, "SELECT to_regclass($1) IS NOT NULL", &[&HISTORY]).await?;
    if !there.is_some_and(|row| row.try_get(0).unwrap_or(false)) {
        return Err(unmigrated());
    }
    let applied = one(client, "SELECT max(version) FROM refinery_schema_history", &[]).await?;
    let applied: Option<i32> = applied.and_then(|row| row.try_get(0).ok().flatten());
    if applied < newest { Err(unmigrated()) } else { Ok(()) }
}
