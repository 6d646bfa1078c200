//! The object store: uploads and stored playbooks, in a directory or in buckets. Nothing outside this
//! folder names the `object_store` crate.
//!
//! Keys are made by us (`uploads/<id>`, `playbooks/<org>/<sha256>`), never from a caller's text, and
//! are the same in a directory and in buckets. An object appears whole or not at all.

mod s3;

use std::{
    os::unix::fs::DirBuilderExt as _,
    path::{Path as FsPath, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream::BoxStream};
use object_store::{
    ObjectStore, ObjectStoreExt, WriteMultipart, local::LocalFileSystem, path::Path,
};
use time::OffsetDateTime;

use self::s3::Bucket;
use crate::{
    config::{
        storage::{S3Settings, StorageSettings},
        tls::{Timeouts, TlsSettings},
    },
    tls,
};

/// What keys of stored playbooks begin with.
const COMPONENTS: &str = "playbooks";
/// The least time for an answer that a service with buckets has.
const LEAST_PATIENCE: Duration = Duration::from_secs(20);
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
    /// It cannot be used at all.
    #[error(transparent)]
    Unready(#[from] Unready),
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

/// Why the object store cannot be used now.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the object store is not usable: {why}")]
pub struct Unready {
    why: String,
    /// Whether waiting does not help: settings or rights are wrong.
    pub lasting: bool,
}

impl Unready {
    fn of_directory(path: &FsPath, why: &str) -> Self {
        Self { why: format!("{}: {why}", path.display()), lasting: false }
    }
}

/// The object store of this process.
#[derive(Clone, Debug)]
pub struct Objects(Engine);

#[derive(Clone, Debug)]
enum Engine {
    Directory(PathBuf, Arc<dyn ObjectStore>),
    Buckets {
        /// Everything below `playbooks…`.
        components: Bucket,
        /// Everything else.
        files: Bucket,
    },
}

impl Objects {
    /// The object store of the settings. Nothing is asked of a service yet, see
    /// [`Objects::prepare`].
    ///
    /// # Errors
    /// When the directory cannot be made or entered, or `TLS_CA_FILE` cannot be used.
    pub fn of(
        settings: &StorageSettings,
        trusted: &TlsSettings,
        timeouts: &Timeouts,
    ) -> anyhow::Result<Self> {
        let s3 = match settings {
            StorageSettings::Directory(path) => return Self::directory(path),
            StorageSettings::S3(s3) => s3,
        };
        let Timeouts { connect, read } = *timeouts;
        // The service answers a whole piece when it has it, which takes longer than an answer of
        // another.
        let timeouts = Timeouts { connect, read: read.max(LEAST_PATIENCE) };
        Self::buckets(s3, &tls::http_client(trusted, &timeouts)?)
    }

    /// Buckets as object store, by this client.
    ///
    /// # Errors
    /// When the address cannot be one.
    pub fn buckets(settings: &S3Settings, client: &reqwest::Client) -> anyhow::Result<Self> {
        Ok(Self(Engine::Buckets {
            components: Bucket::of(settings, &settings.components, client)?,
            files: Bucket::of(settings, &settings.files, client)?,
        }))
    }

    /// A directory as object store, nobody else's where it is made here. Files are synced before a
    /// write is answered, since an accepted upload must survive a power cut.
    ///
    /// # Errors
    /// When the directory cannot be made or entered.
    pub fn directory(path: &FsPath) -> anyhow::Result<Self> {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.with_context(|| format!("{} cannot be used for objects", path.display()))?;
        let store = LocalFileSystem::new_with_prefix(path)?.with_fsync(true);
        Ok(Self(Engine::Directory(path.to_owned(), Arc::new(store))))
    }

    /// Makes buckets that are not there, and sees that they can be used.
    ///
    /// # Errors
    /// When they cannot, with the reason.
    pub async fn prepare(&self) -> Result<(), Unready> {
        match &self.0 {
            Engine::Directory(..) => self.check().await,
            Engine::Buckets { components, files } => {
                components.prepare().await?;
                files.prepare().await
            }
        }
    }

    /// Whether it answers.
    ///
    /// # Errors
    /// When it does not, with the reason.
    pub async fn check(&self) -> Result<(), Unready> {
        match &self.0 {
            Engine::Directory(path, _) => match tokio::fs::metadata(path).await {
                Ok(found) if found.is_dir() => Ok(()),
                Ok(_) => Err(Unready::of_directory(path, "it is no directory")),
                Err(error) => Err(Unready::of_directory(path, &error.to_string())),
            },
            Engine::Buckets { components, files } => {
                components.check().await?;
                files.check().await
            }
        }
    }

    /// Where objects of this key, or below this prefix, are.
    fn store(&self, key: &str) -> Arc<dyn ObjectStore> {
        match &self.0 {
            Engine::Directory(_, store) => Arc::clone(store),
            Engine::Buckets { components, .. } if key.starts_with(COMPONENTS) => {
                components.s3.clone()
            }
            Engine::Buckets { files, .. } => files.s3.clone(),
        }
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
        let (store, path) = (self.store(key), Path::from(key));
        let mut size = 0_u64;
        let mut first = BytesMut::new();
        let mut upload: Option<WriteMultipart> = None;
        while let Some(piece) = source.next().await {
            let refused = match piece {
                Ok(piece) if size + piece.len() as u64 <= limit => {
                    size += piece.len() as u64;
                    match &mut upload {
                        Some(upload) => {
                            upload.wait_for_capacity(PIECES_IN_FLIGHT).await?;
                            upload.put(piece);
                        }
                        None => first.extend_from_slice(&piece),
                    }
                    // What fits into one piece is one request, whatever the engine.
                    if upload.is_none() && first.len() > PIECE {
                        let started = store.put_multipart(&path).await?;
                        let mut started = WriteMultipart::new_with_chunk_size(started, PIECE);
                        started.put(std::mem::take(&mut first).freeze());
                        upload = Some(started);
                    }
                    continue;
                }
                Ok(_) => StorageError::TooLarge(limit),
                Err(error) => StorageError::Source(error.to_string()),
            };
            if let Some(upload) = upload {
                upload.abort().await?;
            }
            return Err(refused);
        }
        match upload {
            Some(upload) => drop(upload.finish().await?),
            None => drop(store.put(&path, first.freeze().into()).await?),
        }
        Ok(size)
    }

    /// Opens an object for reading; `None` where there is none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn read(&self, key: &str) -> Result<Option<Reading>, StorageError> {
        match self.store(key).get(&Path::from(key)).await {
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
        match self.store(key).head(&Path::from(key)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Moves an object within what its first word names, replacing what is there. Safe to repeat:
    /// one that is not there any more has been moved where the other is there.
    ///
    /// # Errors
    /// When there is none, or the store fails.
    pub async fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        match self.store(from).rename(&Path::from(from), &Path::from(to)).await {
            Err(object_store::Error::NotFound { .. }) if self.exists(to).await? => Ok(()),
            moved => Ok(moved?),
        }
    }

    /// Removes an object; one that is not there is fine.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn delete(&self, key: &str) -> Result<(), StorageError> {
        match self.store(key).delete(&Path::from(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The objects below a prefix, as they are found.
    pub fn list(&self, prefix: &str) -> BoxStream<'static, Result<Listed, StorageError>> {
        let found = self.store(prefix).list(Some(&Path::from(prefix)));
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
