//! SQLite behind the store traits: one file in one directory, for one process at a time.
//!
//! One connection writes, in transactions that take the write lock at once; a few others read
//! snapshots. Everything runs on blocking threads. Values: uuid as 16 bytes, time as microseconds
//! of UTC. The shape is in `migrations/sqlite`, the meaning in [`super`].

use std::{
    fs::{DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Stores, totals::Totals};

mod apply;
mod audit;
mod cancel;
mod changes;
mod claims;
mod connection;
mod create;
mod encode;
mod events;
mod feed;
mod finish;
mod instances;
mod keys;
mod last_auth;
mod leases;
mod lists;
mod logs;
mod outbox;
#[cfg(test)]
mod plans;
mod playbooks;
mod recipients;
mod registrations;
mod retention;
mod runs;
mod satellite;
mod upkeep;
mod uploads;
mod work;

/// The database's file in its directory.
pub const FILE_NAME: &str = "dispatcher.db";
/// The file whose lock keeps a second process out.
const LOCK_NAME: &str = "dispatcher.lock";

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "the data directory {0} is in use by another process: stop that one, or give this one \
         another directory (--data-dir, or DATABASE_URL=sqlite:<directory>)"
    )]
    InUse(PathBuf),
    /// It, or a file in it, cannot be made or opened.
    #[error("{path} cannot be used as data: {source}; its owner must be the service's user")]
    Files {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database in it cannot be opened.
    #[error("the database {path} cannot be opened: {source}")]
    Database {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The database's shape is not one this version knows.
    #[error(
        "the database {path} cannot be brought to this version's shape: {source}; was it written \
         by a newer version?"
    )]
    Migration {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: Box<refinery::Error>,
    },
}

/// The database of one directory.
pub struct Store {
    db: connection::Db,
    instances: instances::Registry,
    totals: Arc<Totals>,
}

impl Store {
    /// Opens the database in a directory, making and migrating what is not there yet. Blocks.
    ///
    /// # Errors
    /// When another process has it open, or the directory or database cannot be used.
    pub fn open(directory: &Path) -> Result<Stores, OpenError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Files { path, source }
        };
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(failed(directory))?;
        let lock_path = directory.join(LOCK_NAME);
        let lock = private_file(&lock_path).map_err(failed(&lock_path))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OpenError::InUse(directory.to_owned()),
            TryLockError::Error(source) => failed(&lock_path)(source),
        })?;
        let path = directory.join(FILE_NAME);
        // SQLite gives its journal files the permissions of the database's file.
        private_file(&path).map_err(failed(&path))?;
        let store = Arc::new(Self {
            db: connection::Db::open(&path, lock)?,
            instances: instances::Registry::default(),
            totals: Arc::default(),
        });
        Ok(Stores {
            runs: store.clone(),
            work: store.clone(),
            recipients: store.clone(),
            registrations: store.clone(),
            uploads: store.clone(),
            playbooks: store.clone(),
            keys: store.clone(),
            audit: store.clone(),
            upkeep: store.clone(),
            leases: store.clone(),
            last_auth: store.clone(),
            instances: store.clone(),
            events: store.clone(),
            feed: store.clone(),
            retention: store,
            wakeups: None,
        })
    }
}

fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}
