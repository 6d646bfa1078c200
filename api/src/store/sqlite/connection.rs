//! Connections: the one that writes, the few that read, and how work gets onto blocking threads.
//!
//! Nothing else in the adapter opens a connection or begins a transaction.

use std::{
    fs::File,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use dispatcher_worker::crash;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    super::{StoreError, StoreResult},
    OpenError,
};

mod embedded {
    refinery::embed_migrations!("migrations/sqlite");
}

/// How many snapshots can be read at once.
const READERS: usize = 4;
/// How long a connection waits for another's lock; only recovery and checkpoints ever hold one.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Statements kept prepared per connection; about as many as the adapter has.
const CACHED_STATEMENTS: usize = 128;
/// What a connection may keep of the file in memory, in KiB; grows only with use.
const CACHE_KIB: i64 = 8 * 1024;
/// The journal is cut back to this length after a checkpoint.
const JOURNAL_BYTES: i64 = 64 * 1024 * 1024;

/// The crash points around a commit.
#[derive(Clone, Copy)]
pub(super) struct Points(pub(super) &'static str, pub(super) &'static str);

/// The connections of one database.
pub(super) struct Db {
    writer: Arc<tokio::sync::Mutex<Connection>>,
    readers: Arc<Readers>,
    /// Keeps other processes out until it is closed.
    _lock: File,
}

struct Readers {
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

/// A reader that goes back to the others whatever happens.
struct Lent {
    connection: Option<Connection>,
    readers: Arc<Readers>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut idle = self.readers.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.extend(self.connection.take());
    }
}

impl Db {
    /// Opens all connections and migrates. The file exists; the lock is held.
    pub(super) fn open(path: &Path, lock: File) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Database { path: path.to_owned(), source };
        let mut writer = open_writer(path).map_err(failed)?;
        embedded::migrations::runner().run(&mut writer).map_err(|source| OpenError::Migration {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        let idle = (0..READERS).map(|_| open_reader(path)).collect::<Result<_, _>>();
        let readers = Readers {
            idle: Mutex::new(idle.map_err(failed)?),
            permits: Arc::new(Semaphore::new(READERS)),
        };
        Ok(Self {
            writer: Arc::new(tokio::sync::Mutex::new(writer)),
            readers: Arc::new(readers),
            _lock: lock,
        })
    }

    /// Runs work in a transaction that may write. It is committed when the work succeeds, and then
    /// durable; otherwise nothing has happened. Goes on to its end when the caller goes away.
    pub(super) async fn write<T, F>(&self, points: Points, work: F) -> StoreResult<T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> StoreResult<T> + Send + 'static,
    {
        let mut writer = self.writer.clone().lock_owned().await;
        on_blocking_thread(move || {
            let transaction = writer.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let result = work(&transaction)?;
            crash::point(points.0);
            transaction.commit()?;
            crash::point(points.1);
            Ok(result)
        })
        .await
    }

    /// Runs work on one snapshot of the database.
    pub(super) async fn read<T, F>(&self, work: F) -> StoreResult<T>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> StoreResult<T> + Send + 'static,
    {
        let closed = |_| StoreError::Failed("the readers are gone".to_owned());
        let permit = self.readers.permits.clone().acquire_owned().await.map_err(closed)?;
        let readers = self.readers.clone();
        on_blocking_thread(move || {
            let idle = readers.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut lent = Lent { connection: idle, readers, _permit: permit };
            let missing = || StoreError::Failed("no reader is idle despite a permit".to_owned());
            let transaction = lent.connection.as_mut().ok_or_else(missing)?.transaction()?;
            work(&transaction)
        })
        .await
    }
}

async fn on_blocking_thread<T: Send + 'static>(
    work: impl FnOnce() -> StoreResult<T> + Send + 'static,
) -> StoreResult<T> {
    let died = |error| StoreError::Failed(format!("database work did not end: {error}"));
    tokio::task::spawn_blocking(work).await.map_err(died)?
}

fn open_writer(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags())?;
    prepare(&connection)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // Every commit reaches the disk before it is acknowledged.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "journal_size_limit", JOURNAL_BYTES)?;
    Ok(connection)
}

fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(path, flags())?;
    prepare(&connection)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

fn flags() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
    connection.pragma_update(None, "cache_size", -CACHE_KIB)
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(
                ErrorCode::DatabaseBusy
                | ErrorCode::DatabaseLocked
                | ErrorCode::DiskFull
                | ErrorCode::SystemIoFailure
                | ErrorCode::OutOfMemory,
            ) => Self::Unavailable(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}
