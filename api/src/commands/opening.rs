//! Opens the database that settings name: the one place that chooses between the stores.

use std::path::PathBuf;

use crate::{
    config::source::{Source, Spec},
    store::{Stores, sqlite},
};

const URL: Spec = Spec {
    names: &["DATABASE_URL"],
    about: "The database.",
    allowed: "sqlite:<directory>",
    secret: true,
};

/// The database of one installation.
#[derive(Clone, Debug)]
pub(super) enum Database {
    /// A SQLite directory.
    Sqlite(PathBuf),
}

/// Reads which database is meant; none is a mistake.
pub(super) fn database(source: &mut Source) -> Option<Database> {
    let url = source.text(&URL);
    let Some(url) = url else {
        source.error("DATABASE_URL is required: sqlite:<directory>");
        return None;
    };
    let directory = url.strip_prefix("sqlite:").filter(|path| !path.is_empty());
    if directory.is_none() {
        source.reject(&URL, &url);
    }
    directory.map(|path| Database::Sqlite(path.into()))
}

/// Opens it, bringing it to this version's shape first.
///
/// # Errors
/// When it is in use by another process.
pub(super) async fn open(database: &Database) -> anyhow::Result<Stores> {
    let Database::Sqlite(directory) = database.clone();
    Ok(tokio::task::spawn_blocking(move || sqlite::Store::open(&directory)).await??)
}

/// Brings the database to this version's shape, and says what was done.
///
/// # Errors
/// See [`open`].
pub(super) async fn migrate_up(database: &Database) -> anyhow::Result<String> {
    open(database).await?;
    Ok("the database has this version's shape".to_owned())
}

/// Takes away what is ours alone, and says what was done.
///
/// # Errors
/// When there is nothing else to go back to.
pub(super) async fn migrate_down(database: &Database) -> anyhow::Result<String> {
    let Database::Sqlite(path) = database;
    anyhow::bail!(
        "a SQLite database has nothing to go back to; remove {} to start anew",
        path.display()
    )
}
