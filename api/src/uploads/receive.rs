//! Receiving an upload: the archive into the object store, then its row into the inbox, then the
//! answer. Half an upload leaves nothing; what a crash leaves between the two is swept.

use std::fmt::Display;

use bytes::Bytes;
use dispatcher_worker::crash;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use time::OffsetDateTime;
use uuid::Uuid;

use super::model::{Upload, UploadState};
use crate::{
    bus::{Topic, Wakeups},
    storage::{Objects, StorageError},
    store::{StoreError, UploadStore},
};

/// Where archives lie in the object store.
pub const ARCHIVES: &str = "uploads";
/// How many archives the sweep looks up at once.
const SWEEP_PAGE: usize = 500;

/// Why an upload was not received. Nothing was kept.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// It has no content.
    #[error("the upload is empty")]
    Empty,
    /// The archive did not arrive, is too long, or could not be written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ReceiveError {
    /// Whether it is empty or too long: the original's validator answers that with a failure.
    #[must_use]
    pub const fn is_about_size(&self) -> bool {
        matches!(self, Self::Empty | Self::Storage(StorageError::TooLarge(_)))
    }
}

/// Who sends an upload.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Sender {
    /// The organisation it is for.
    pub org_id: String,
    /// The run that its token is bound to, if it came with one.
    pub run_id: Option<Uuid>,
}

/// Where uploads are received.
#[derive(Clone, Copy)]
pub struct Inbox<'a> {
    /// The archives.
    pub objects: &'a Objects,
    /// The rows.
    pub uploads: &'a dyn UploadStore,
    /// Who waits for them.
    pub wakeups: &'a Wakeups,
    /// The most that one may take as sent, in bytes.
    pub max_size: u64,
}

impl Inbox<'_> {
    /// Receives an archive; answers with its request id.
    ///
    /// # Errors
    /// When it does not arrive whole, is empty or too long, or a store fails.
    pub async fn receive<S, E>(&self, sender: Sender, archive: S) -> Result<Uuid, ReceiveError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin,
        E: Display + Send,
    {
        let id = Uuid::now_v7();
        let object = format!("{ARCHIVES}/{id}");
        let size = self.objects.write(&object, archive, self.max_size).await?;
        crash::point("upload.object.stored");
        if size == 0 {
            self.objects.delete(&object).await?;
            return Err(ReceiveError::Empty);
        }
        let upload = Upload {
            id,
            org_id: sender.org_id,
            run_id: sender.run_id,
            object,
            size: i64::try_from(size).unwrap_or(i64::MAX),
            state: UploadState::Pending,
            reason: None,
            attempt: 0,
            created_at: OffsetDateTime::now_utc().truncate_to_microsecond(),
        };
        // After an error nobody knows whether the row is there, so the archive stays: without a
        // row the sweep finds it.
        self.uploads.accept(&upload).await?;
        crash::point("upload.row.committed");
        self.wakeups.wake(Topic::Uploads);
        Ok(id)
    }

    /// Takes an archive as if it were received and keeps nothing of it: those of blocked organisations
    /// are dropped, and whoever sends them is not told (contract §1.14).
    ///
    /// # Errors
    /// When it does not arrive whole, is empty or too long, as for everybody.
    pub async fn drop_silently<S, E>(&self, mut archive: S) -> Result<Uuid, ReceiveError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin,
        E: Display + Send,
    {
        let mut size = 0_u64;
        while let Some(piece) = archive.next().await {
            let piece = piece.map_err(|error| StorageError::Source(error.to_string()))?;
            size = size.saturating_add(piece.len() as u64);
            if size > self.max_size {
                return Err(StorageError::TooLarge(self.max_size).into());
            }
        }
        if size == 0 {
            return Err(ReceiveError::Empty);
        }
        tracing::info!("an upload of a blocked organisation was dropped");
        Ok(Uuid::now_v7())
    }

    /// Removes archives older than `before` that no row needs: those of applied uploads, and those
    /// whose row a crash has prevented.
    ///
    /// # Errors
    /// When a store fails; what was removed before stays removed.
    pub async fn sweep(&self, before: OffsetDateTime) -> Result<u64, ReceiveError> {
        let mut found = self.objects.list(ARCHIVES).try_chunks(SWEEP_PAGE);
        let mut removed = 0;
        while let Some(found) = found.try_next().await.map_err(|error| error.1)? {
            let old = found.iter().filter(|found| found.written_at < before);
            let ids: Vec<Uuid> = old.filter_map(|found| id_of(&found.key)).collect();
            for id in self.uploads.not_needed(&ids).await? {
                self.objects.delete(&format!("{ARCHIVES}/{id}")).await?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

fn id_of(key: &str) -> Option<Uuid> {
    key.rsplit('/').next()?.parse().ok()
}
