//! Storing a playbook: streamed to the object store while its digest is taken, checked there, named
//! after its digest, and only then pointed at by a name. A cut or refused body leaves nothing.

use std::{fmt::Display, io, sync::Arc};

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use dispatcher_worker::crash;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use serde_json::json;
use time::OffsetDateTime;
use tokio_util::io::{StreamReader, SyncIoBridge};
use uuid::Uuid;

use super::{
    address::Content,
    bundle::{self, BundleError},
    content::{self, Description},
    model::StoredPlaybook,
};
use crate::{
    app::App,
    audit::model::{Action, Actor, AuditEntry},
    keyring::hex,
    storage::{Objects, StorageError},
    store::{PlaybookStore, StoreError},
};

/// Where bodies lie until they are checked.
pub(super) const INCOMING: &str = "playbooks-incoming";

/// Why a playbook was not stored. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The content is not a playbook; says why.
    #[error("{0}")]
    Refused(String),
    /// The same content is stored with another entry.
    #[error("this very content is stored already with the entry {}; use that, or change it",
        .0.as_deref().unwrap_or("of a single file"))]
    OtherEntry(Option<String>),
    /// The body did not arrive, is too long, or could not be written.
    #[error(transparent)]
    Body(StorageError),
    /// The object store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Something that must not happen.
    #[error("{0}")]
    Failed(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Where playbooks are stored.
#[derive(Clone)]
pub struct Shelf {
    /// Their contents.
    pub objects: Objects,
    /// Their names.
    pub names: Arc<dyn PlaybookStore>,
    /// The most that one may take as sent, in bytes.
    pub max_size: u64,
}

/// A playbook to be stored.
#[derive(Clone, Debug)]
pub struct NewPlaybook {
    /// Whose it is.
    pub org_id: String,
    /// A valid name.
    pub name: String,
    /// The file that is run, where the caller says so.
    pub entry: Option<String>,
}

struct Incoming {
    key: String,
    size: u64,
    sha256: [u8; 32],
}

impl Shelf {
    /// That of one process.
    #[must_use]
    pub fn of(app: &App) -> Self {
        Self {
            objects: app.objects.clone(),
            names: app.stores.playbooks.clone(),
            max_size: app.settings.playbooks.max_size,
        }
    }

    /// Stores a playbook under its name. `true`: the name is new.
    ///
    /// # Errors
    /// When the body fails, is too long or is not a playbook, or a store fails.
    pub async fn put<S, E>(
        &self,
        new: NewPlaybook,
        body: S,
        by: Option<&Actor>,
    ) -> Result<(StoredPlaybook, bool), PutError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin,
        E: Display + Send,
    {
        let incoming = self.take(body).await.map_err(PutError::Body)?;
        let stored = self.shelve(&incoming, &new).await;
        if stored.is_err() {
            self.objects.delete(&incoming.key).await?;
        }
        let entry = stored?;
        crash::point("playbook.object.stored");
        let now = OffsetDateTime::now_utc().truncate_to_microsecond();
        let before = self.names.get(&new.org_id, &new.name).await?;
        let playbook = StoredPlaybook {
            org_id: new.org_id,
            name: new.name,
            sha256: incoming.sha256,
            size: i64::try_from(incoming.size).unwrap_or(i64::MAX),
            entry,
            created_at: before.as_ref().map_or(now, |before| before.created_at),
            updated_at: now,
        };
        let audit = by.map(|by| put_by(by, &playbook));
        let replaced = self.names.put(&playbook, audit.as_ref()).await?;
        crash::point("playbook.row.committed");
        self.keep(&playbook, replaced).await?;
        Ok((playbook, before.is_none()))
    }

    async fn take<S, E>(&self, body: S) -> Result<Incoming, StorageError>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin,
        E: Display + Send,
    {
        let key = format!("{INCOMING}/{}", Uuid::new_v4());
        let mut digest = Context::new(&SHA256);
        let body = body.inspect_ok(|piece| digest.update(piece));
        let size = self.objects.write(&key, body, self.max_size).await?;
        let mut sha256 = [0; 32];
        // SHA-256 has 32 bytes, so both sides are of one length.
        sha256.copy_from_slice(digest.finish().as_ref());
        Ok(Incoming { key, size, sha256 })
    }

    /// Checks what has come in and gives it its place; answers with its entry.
    async fn shelve(
        &self,
        incoming: &Incoming,
        new: &NewPlaybook,
    ) -> Result<Option<String>, PutError> {
        let entry = self.check(&incoming.key, new.entry.clone()).await?;
        let content = Content { org_id: new.org_id.clone(), sha256: incoming.sha256 };
        let description = Description { entry };
        match content::describe(&self.objects, &content).await? {
            Some(known) if known == description => {
                content::note(&self.objects, &content, &description).await?;
                self.objects.delete(&incoming.key).await?;
            }
            Some(known) => return Err(PutError::OtherEntry(known.entry)),
            None => {
                self.objects.rename(&incoming.key, &content::key(&content)).await?;
                content::note(&self.objects, &content, &description).await?;
            }
        }
        Ok(description.entry)
    }

    /// Lets the time begin for which replaced content is kept, and makes sure that a sweep at the
    /// same moment has not taken the new one.
    async fn keep(
        &self,
        playbook: &StoredPlaybook,
        replaced: Option<[u8; 32]>,
    ) -> Result<(), StorageError> {
        let of = |sha256| Content { org_id: playbook.org_id.clone(), sha256 };
        if let Some(old) = replaced.map(of)
            && let Some(description) = content::describe(&self.objects, &old).await?
        {
            content::note(&self.objects, &old, &description).await?;
        }
        if content::is_whole(&self.objects, &of(playbook.sha256)).await? {
            return Ok(());
        }
        Err(StorageError::Source("the content was swept meanwhile; send it again".to_owned()))
    }

    async fn check(&self, key: &str, entry: Option<String>) -> Result<Option<String>, PutError> {
        let lost = || PutError::Failed("what was just written is not there".to_owned());
        let reading = self.objects.read(key).await?.ok_or_else(lost)?;
        let pieces = reading.pieces.map_err(io::Error::other).boxed();
        let reader = SyncIoBridge::new(StreamReader::new(pieces));
        let checked =
            tokio::task::spawn_blocking(move || bundle::check(reader, entry.as_deref())).await;
        match checked {
            Ok(Ok(entry)) => Ok(entry),
            Ok(Err(BundleError::Refused(reason))) => Err(PutError::Refused(reason)),
            Ok(Err(BundleError::Unreadable(error))) => Err(PutError::Failed(error.to_string())),
            Err(error) => Err(PutError::Failed(error.to_string())),
        }
    }
}

fn put_by(by: &Actor, playbook: &StoredPlaybook) -> AuditEntry {
    let StoredPlaybook { org_id, name, sha256, size, updated_at, .. } = playbook;
    by.did(Action::PlaybookPut, name, Some(org_id), *updated_at)
        .with(json!({ "sha256": hex(sha256), "size": size }))
}
