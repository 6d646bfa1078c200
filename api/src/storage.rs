//! The object store: uploads and stored playbooks, over a directory (and, by setting, other stores
//! of the `object_store` crate, which nothing outside this file names).
//!
//! Keys are made by us (`uploads/<id>`, `playbooks/<org>/<sha256>`), never from a caller's text. An
//! object appears whole or not at all.

use std::{os::unix::fs::DirBuilderExt as _, path::Path as FsPath, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream::BoxStream};
use object_store::{
    ObjectStore, ObjectStoreExt, WriteMultipart, local::LocalFileSystem, path::Path,
};
use time::OffsetDateTime;

/// How large the pieces are in which a stream is written, in bytes (the least that S3 takes).
const PIECE: usize = 5 * 1024 * 1024;
/// How many pieces may be under way at once.
const PIECES_IN_FLIGHT: usize = 2;

/// Why an object was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The content is longer than the caller allows; nothing was kept.
    #[error("the content is longer than {0} bytes")]
    TooLarge(u64),
    /// The source of the content failed; nothing was kept.
    #[error("the content could not be read: {0}")]
    Source(String),
    /// The store failed.
    #[error("the object store failed: {0}")]
    Failed(#[from] object_store::Error),
}

/// An object that is being read.
pub struct Reading {
    /// Its size in bytes.
    pub size: u64,
    /// Its content, in pieces.
    pub pieces: BoxStream<'static, Result<Bytes, StorageError>>,
}

/// An object in a listing.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its key.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// When it was written.
    pub written_at: OffsetDateTime,
}

/// The object store of this process.
#[derive(Clone, Debug)]
pub struct Objects(Arc<dyn ObjectStore>);

impl Objects {
    /// A directory as object store, nobody else's where it is made here. Files are synced before a
    /// write is answered, since an accepted upload must survive a power cut.
    ///
    /// # Errors
    /// When the directory cannot be made or entered.
    pub fn directory(path: &FsPath) -> anyhow::Result<Self> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Ok(Self(Arc::new(LocalFileSystem::new_with_prefix(path)?.with_fsync(true))))
    }

    /// Writes a stream of at most `limit` bytes; answers with its size. Memory is bounded by a few
    /// pieces, whatever the size.
    ///
    /// # Errors
    /// When the source fails, is too long, or the store fails; then nothing is kept.
    pub async fn write<S, E>(
        &self,
        key: &str,
        mut source: S,
        limit: u64,
    ) -> Result<u64, StorageError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin,
        E: std::fmt::Display + Send,
    {
        let upload = self.0.put_multipart(&Path::from(key)).await?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PIECE);
        let mut size = 0_u64;
        while let Some(piece) = source.next().await {
            let refused = match piece {
                Ok(piece) if size + piece.len() as u64 <= limit => {
                    size += piece.len() as u64;
                    upload.wait_for_capacity(PIECES_IN_FLIGHT).await?;
                    upload.put(piece);
                    continue;
                }
                Ok(_) => StorageError::TooLarge(limit),
                Err(error) => StorageError::Source(error.to_string()),
            };
            upload.abort().await?;
            return Err(refused);
        }
        upload.finish().await?;
        Ok(size)
    }

    /// Opens an object for reading; `None` where there is none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn read(&self, key: &str) -> Result<Option<Reading>, StorageError> {
        match self.0.get(&Path::from(key)).await {
            Ok(found) => Ok(Some(Reading {
                size: found.meta.size,
                pieces: found.into_stream().map(|piece| Ok(piece?)).boxed(),
            })),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether an object exists.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn exists(&self, key: &str) -> Result<bool, StorageError> {
        match self.0.head(&Path::from(key)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Moves an object, replacing what is there.
    ///
    /// # Errors
    /// When there is none, or the store fails.
    pub async fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        Ok(self.0.rename(&Path::from(from), &Path::from(to)).await?)
    }

    /// Removes an object; one that is not there is fine.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn delete(&self, key: &str) -> Result<(), StorageError> {
        match self.0.delete(&Path::from(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The objects below a prefix, as they are found.
    pub fn list(&self, prefix: &str) -> BoxStream<'static, Result<Listed, StorageError>> {
        let found = self.0.list(Some(&Path::from(prefix)));
        found
            .map(|meta| {
                let meta = meta?;
                let seconds = meta.last_modified.timestamp();
                Ok(Listed {
                    key: meta.location.to_string(),
                    size: meta.size,
                    written_at: OffsetDateTime::from_unix_timestamp(seconds)
                        .unwrap_or(OffsetDateTime::UNIX_EPOCH),
                })
            })
            .boxed()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{TryStreamExt, stream};

    use super::*;

    fn pieces(sizes: &[usize]) -> impl Stream<Item = Result<Bytes, String>> + Unpin {
        stream::iter(sizes.iter().map(|size| Ok(Bytes::from(vec![7; *size]))).collect::<Vec<_>>())
    }

    #[test]
    fn a_directory_made_here_is_nobody_elses() {
        use std::os::unix::fs::PermissionsExt as _;
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        Objects::directory(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        Objects::directory(&path).unwrap();
    }

    #[tokio::test]
    async fn an_object_appears_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let objects = Objects::directory(directory.path()).unwrap();
        let size = objects.write("uploads/a", pieces(&[PIECE, 10]), 1 << 30).await.unwrap();
        assert_eq!(size, PIECE as u64 + 10);
        let read = objects.read("uploads/a").await.unwrap().unwrap();
        assert_eq!(read.size, size);
        let content: Vec<Bytes> = read.pieces.try_collect().await.unwrap();
        assert_eq!(content.iter().map(Bytes::len).sum::<usize>() as u64, size);

        let long = objects.write("uploads/b", pieces(&[600, 600]), 1000).await;
        assert!(matches!(long, Err(StorageError::TooLarge(1000))));
        let broken = stream::iter([Ok(Bytes::from_static(b"half")), Err("cut")]);
        let broken = objects.write("uploads/b", broken, 1000).await;
        assert!(matches!(broken, Err(StorageError::Source(_))));
        assert!(!objects.exists("uploads/b").await.unwrap());
        assert!(objects.read("uploads/b").await.unwrap().is_none());

        objects.rename("uploads/a", "uploads/c").await.unwrap();
        let listed: Vec<Listed> = objects.list("uploads").try_collect().await.unwrap();
        assert_eq!(
            listed.iter().map(|found| found.key.as_str()).collect::<Vec<_>>(),
            ["uploads/c"]
        );
        objects.delete("uploads/c").await.unwrap();
        objects.delete("uploads/c").await.unwrap();
    }
}
