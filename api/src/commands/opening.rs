//! Opens the database that settings name: the one place that chooses between the stores.

use crate::{
    config::{
        database::{self, Database},
        source::Source,
    },
    store::{
        StoreError, Stores,
        postgres::{PostgresStore, migrate::MigrateError},
        sqlite,
    },
};

/// Reads which database is meant; none is a mistake.
pub fn database(source: &mut Source) -> Option<Database> {
    let database = database::read(source);
    if database.is_none() {
        source.error(
            "DATABASE_URL is required: postgres://user:password@host:port/name, or \
             sqlite:<directory> for a single process",
        );
    }
    database
}

/// Opens it, bringing it to this version's shape first.
///
/// # Errors
/// When it cannot be reached, is in use by another process (SQLite), or is not ours to touch.
pub(super) async fn open(database: &Database) -> anyhow::Result<Stores> {
    match database {
        Database::Postgres(postgres) => {
            PostgresStore::migrate(postgres).await?;
            Ok(PostgresStore::connect(postgres).await?)
        }
        Database::Sqlite(directory) => {
            let directory = directory.clone();
            Ok(tokio::task::spawn_blocking(move || sqlite::Store::open(&directory)).await??)
        }
    }
}

/// Whether a database that could not be opened may be there later.
pub(super) fn may_come(error: &anyhow::Error) -> bool {
    let store = error.downcast_ref::<StoreError>();
    let migrating = error.downcast_ref::<MigrateError>().and_then(|error| match error {
        MigrateError::Store(store) => Some(store),
        MigrateError::Refused(_) => None,
    });
    matches!(store.or(migrating), Some(StoreError::Unavailable(_)))
}

/// Brings the database to this version's shape, and says what was done.
///
/// # Errors
/// See [`open`].
pub(super) async fn migrate_up(database: &Database) -> anyhow::Result<String> {
    match database {
        Database::Postgres(postgres) => {
            let migrated = PostgresStore::migrate(postgres).await?;
            let adopted = if migrated.adopted { "adopted; " } else { "" };
            Ok(match migrated.applied.as_slice() {
                [] => format!("{adopted}nothing to do"),
                applied => format!("{adopted}applied {}", applied.join(", ")),
            })
        }
        Database::Sqlite(_) => {
            open(database).await?;
            Ok("the database has this version's shape".to_owned())
        }
    }
}

/// Which part of the shape is taken away.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Down {
    /// What is ours alone.
    Ours,
    /// Everything.
    All,
}

/// Takes it away, and says what was done. Nothing to do is success.
///
/// # Errors
/// When the database is somebody else's, or there is nothing else to go back to (SQLite).
pub(super) async fn migrate_down(database: &Database, down: Down) -> anyhow::Result<&'static str> {
    let postgres = match database {
        Database::Postgres(postgres) => postgres,
        Database::Sqlite(path) => anyhow::bail!(
            "a SQLite database has nothing to go back to; remove {} to start anew",
            path.display()
        ),
    };
    let (is_done, done) = match down {
        Down::Ours => (
            PostgresStore::migrate_down(postgres).await?,
            "our tables are gone; runs and run_hosts stay",
        ),
        Down::All => (
            PostgresStore::migrate_down_all(postgres).await?,
            "everything is gone, runs and run_hosts too",
        ),
    };
    Ok(if is_done { done } else { "nothing to do" })
}
