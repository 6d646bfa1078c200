//! Whether a database may be ours (decision 1). Looking at it, and a verdict that is a pure
//! function of what was found.
//!
//! Empty is made ours, ours is continued, one of Playbook Dispatcher at its last version is
//! adopted. Everything else is refused, saying what was found and what to do.

use std::collections::BTreeSet;

use tokio_postgres::Client;

use super::fault::Fault;

/// The version of the original's schema that is adopted.
const ORIGINAL_VERSION: i64 = 16;
/// The name of our first migration: by it a history is known to be ours.
const FIRST: (i32, &str) = (1, "contract_tables");
/// Where applied migrations are noted. Others who use the same library note theirs there too.
pub(super) const HISTORY: &str = "refinery_schema_history";
/// Our side tables.
pub(super) const SIDE_TABLES: [&str; 19] = [
    "run_work",
    "run_output",
    "run_error",
    "run_dispatch",
    "run_sequence",
    "outbox",
    "outbox_horizon",
    "idempotency",
    "recipients",
    "uploads",
    "playbooks",
    "auth_state",
    "service_keys",
    "last_auth",
    "audit",
    "leases",
    "instances",
    "registrations",
    "satellite_progress",
];
const CONTRACT_COLUMNS: [&str; 29] = [
    "runs.id",
    "runs.recipient",
    "runs.correlation_id",
    "runs.url",
    "runs.labels",
    "runs.status",
    "runs.events",
    "runs.created_at",
    "runs.updated_at",
    "runs.timeout",
    "runs.service",
    "runs.org_id",
    "runs.response_full",
    "runs.playbook_name",
    "runs.playbook_run_url",
    "runs.principal",
    "runs.sat_org_id",
    "runs.sat_id",
    "run_hosts.id",
    "run_hosts.run_id",
    "run_hosts.inventory_id",
    "run_hosts.host",
    "run_hosts.status",
    "run_hosts.log",
    "run_hosts.events",
    "run_hosts.created_at",
    "run_hosts.updated_at",
    "run_hosts.sat_sequence",
    "run_hosts.subscription_manager_id",
];

/// What a database holds.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Versions and names of migrations that are applied.
    history: Vec<(i32, String)>,
    /// The original's bookkeeping: version, and whether a migration was interrupted.
    bookkeeping: Vec<(i64, bool)>,
    /// Tables, views and enumerations of the schema that belong to no extension.
    relations: BTreeSet<String>,
    /// `table.column` of the contract's tables.
    columns: BTreeSet<String>,
}

/// How migrating begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Start {
    /// Everything is created.
    Empty,
    /// The original's tables stay as they are, ours are added.
    Adopt,
    /// Ours already: what is missing is applied.
    Continue,
}

const RELATIONS: &str = "
    SELECT c.relname::text FROM pg_class c
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass
                      AND d.objid = c.oid AND d.deptype = 'e')
    UNION ALL
    SELECT t.typname::text FROM pg_type t
    WHERE t.typnamespace = current_schema()::regnamespace AND t.typtype = 'e'
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_type'::regclass
                      AND d.objid = t.oid AND d.deptype = 'e')";
const COLUMNS: &str = "
    SELECT table_name || '.' || column_name FROM information_schema.columns
    WHERE table_schema = current_schema() AND table_name IN ('runs', 'run_hosts')";

/// Looks at the schema that the connection works in.
pub(super) async fn look(client: &Client) -> Result<Found, Fault> {
    let names = async |text: &str| {
        let rows = client.query(text, &[]).await?;
        rows.iter().map(|row| row.try_get(0)).collect::<Result<BTreeSet<String>, _>>()
    };
    let mut found = Found { relations: names(RELATIONS).await?, ..Found::default() };
    found.columns = names(COLUMNS).await?;
    if found.relations.contains(HISTORY) {
        const APPLIED: &str = "SELECT version, name::text FROM refinery_schema_history";
        let rows = client.query(APPLIED, &[]).await?;
        let pair = |row: &tokio_postgres::Row| Ok::<_, Fault>((row.try_get(0)?, row.try_get(1)?));
        found.history = rows.iter().map(pair).collect::<Result<_, _>>()?;
    }
    if found.relations.contains("schema_migrations") {
        found.bookkeeping = bookkeeping(client).await?;
    }
    Ok(found)
}

/// The rows of a table of that name, if it looks like the original's.
async fn bookkeeping(client: &Client) -> Result<Vec<(i64, bool)>, Fault> {
    const KNOWN: &str = "
        SELECT count(*) = 2 FROM information_schema.columns
        WHERE table_schema = current_schema() AND table_name = 'schema_migrations'
          AND (column_name, data_type) IN (('version', 'bigint'), ('dirty', 'boolean'))";
    if !client.query_one(KNOWN, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(Vec::new());
    }
    let rows = client.query("SELECT version, dirty FROM schema_migrations LIMIT 2", &[]).await?;
    let pair = |row: &tokio_postgres::Row| Ok((row.try_get(0)?, row.try_get(1)?));
    rows.iter().map(pair).collect()
}

impl Found {
    /// How migrating begins, or why it must not; `newest` is the last migration that is known here.
    pub(super) fn verdict(&self, newest: i32) -> Result<Start, String> {
        if let Some((version, name)) = self.history.iter().min() {
            return self.continuing((*version, name), newest);
        }
        let others: Vec<&str> =
            self.relations.iter().map(String::as_str).filter(|name| *name != HISTORY).collect();
        match self.bookkeeping.as_slice() {
            _ if others.is_empty() => Ok(Start::Empty),
            [(ORIGINAL_VERSION, false)] => self.adoption(),
            [(version, true)] => Err(format!(
                "the database is marked dirty at version {version} of Playbook Dispatcher's schema: \
                 one of its migrations was interrupted. Repair it with Playbook Dispatcher's own \
                 tools until schema_migrations says {ORIGINAL_VERSION} and not dirty, then try again"
            )),
            [(version, false)] => Err(format!(
                "the database is at version {version} of Playbook Dispatcher's schema, and only \
                 version {ORIGINAL_VERSION} is adopted. Bring it there with Playbook Dispatcher's \
                 own `migrate up`, then try again"
            )),
            _ => Err(format!(
                "the database is neither empty nor known: it has {}. Name an empty database, or \
                 one of Playbook Dispatcher at version {ORIGINAL_VERSION}",
                some_of(&others)
            )),
        }
    }

    fn continuing(&self, first: (i32, &str), newest: i32) -> Result<Start, String> {
        if first != FIRST {
            let (version, name) = first;
            return Err(format!(
                "the database is another program's: {HISTORY} begins with step {version}, {name}, \
                 which is none of ours. Name another database"
            ));
        }
        match self.history.iter().map(|(version, _)| *version).max() {
            Some(last) if last > newest => Err(format!(
                "a newer version of the service has migrated the database, to step {last} (this one \
                 knows {newest}): use that version"
            )),
            _ => Ok(Start::Continue),
        }
    }

    fn adoption(&self) -> Result<Start, String> {
        let missing: Vec<&str> =
            CONTRACT_COLUMNS.into_iter().filter(|column| !self.columns.contains(*column)).collect();
        if !missing.is_empty() {
            return Err(format!(
                "the database says it is at version {ORIGINAL_VERSION} of Playbook Dispatcher's \
                 schema, and yet {} is missing. Restore it, or name another database",
                some_of(&missing)
            ));
        }
        let taken: Vec<&str> =
            SIDE_TABLES.into_iter().filter(|name| self.relations.contains(*name)).collect();
        if !taken.is_empty() {
            return Err(format!(
                "the database of Playbook Dispatcher has tables of our names that we did not \
                 make: {}. Rename them, or name another database",
                some_of(&taken)
            ));
        }
        Ok(Start::Adopt)
    }
}

/// The first few of many names.
fn some_of(names: &[&str]) -> String {
    const SHOWN: usize = 8;
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEWEST: i32 = 4;

    fn original() -> Found {
        let names = ["runs", "run_hosts", "runs_status", "schema_migrations"];
        Found {
            bookkeeping: vec![(16, false)],
            relations: names.into_iter().map(str::to_owned).collect(),
            columns: CONTRACT_COLUMNS.into_iter().map(str::to_owned).collect(),
            ..Found::default()
        }
    }

    fn with(mut found: Found, relation: &str) -> Found {
        found.relations.insert(relation.to_owned());
        found
    }

    fn refused(found: &Found, words: &[&str]) {
        refused_at(NEWEST, found, words);
    }

    fn refused_at(newest: i32, found: &Found, words: &[&str]) {
        let why = found.verdict(newest).unwrap_err();
        assert!(words.iter().all(|word| why.contains(word)), "{why}");
    }

    #[test]
    fn empty_is_made_and_ours_is_continued() {
        assert_eq!(Found::default().verdict(NEWEST), Ok(Start::Empty));
        assert_eq!(with(Found::default(), HISTORY).verdict(NEWEST), Ok(Start::Empty));
        let history = vec![(2, "x".to_owned()), (1, "contract_tables".to_owned())];
        let ours = Found { history, ..with(original(), "run_work") };
        assert_eq!(ours.verdict(NEWEST), Ok(Start::Continue));
        refused_at(1, &ours, &["newer version", "step 2"]);
    }

    #[test]
    fn the_originals_last_version_is_adopted_with_whatever_else_is_there() {
        assert_eq!(original().verdict(NEWEST), Ok(Start::Adopt));
        assert_eq!(with(original(), "debezium_signal").verdict(NEWEST), Ok(Start::Adopt));
        assert_eq!(with(original(), HISTORY).verdict(NEWEST), Ok(Start::Adopt));
    }

    #[test]
    fn everything_else_is_refused_with_what_was_found() {
        let at = |version, dirty| Found { bookkeeping: vec![(version, dirty)], ..original() };
        refused(&at(15, false), &["version 15", "migrate up"]);
        refused(&at(17, false), &["version 17"]);
        refused(&at(16, true), &["dirty", "interrupted"]);
        refused(&Found { bookkeeping: Vec::new(), ..original() }, &["neither empty", "runs"]);
        refused(&with(Found::default(), "runs"), &["neither empty", "runs"]);
        refused(&with(original(), "recipients"), &["recipients", "Rename"]);
        let history = vec![(1, "users".to_owned())];
        refused(&Found { history, ..original() }, &["another program", "users"]);
        let mut holed = original();
        holed.columns.remove("runs.sat_id");
        refused(&holed, &["runs.sat_id", "missing"]);
    }
}
