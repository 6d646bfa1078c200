//! Content of stored playbooks in the object store: where it lies, what it is, and reading it.
//!
//! Beside each content lies its description. It is written after the content and read before it,
//! so that what has a description is whole. Both stay when a name points elsewhere: runs that were
//! dispatched before still fetch what they were dispatched with.

use std::convert::Infallible;

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};

use super::address::{Content, sha256_of};
use crate::{
    keyring::{hex, unhex},
    storage::{Objects, Reading, StorageError},
};

/// The most that a description takes, in bytes.
const MAX_DESCRIPTION: u64 = 8192;

/// What a content is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Description {
    /// The file that is run; absent for a single file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
}

/// Where contents lie.
pub const CONTENTS: &str = "playbooks";

/// The key of a content.
#[must_use]
pub fn key(content: &Content) -> String {
    format!("{CONTENTS}/{}/{}", folder(&content.org_id), hex(&content.sha256))
}

/// An organisation as one plain name: whatever is not a letter, a digit, `-` or `_` is escaped.
fn folder(org_id: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let escaped = org_id.bytes().map(|byte| {
        if plain(byte) { char::from(byte).to_string() } else { format!("={byte:02x}") }
    });
    escaped.collect()
}

fn description_key(content: &Content) -> String {
    format!("{}.json", key(content))
}

/// What a content is; `None` where there is no such content.
///
/// # Errors
/// When the object store fails.
pub async fn describe(
    objects: &Objects,
    content: &Content,
) -> Result<Option<Description>, StorageError> {
    let Some(reading) = objects.read(&description_key(content)).await? else { return Ok(None) };
    let bytes: BytesMut = reading.pieces.try_collect().await?;
    let parsed = serde_json::from_slice(&bytes);
    parsed.map(Some).map_err(|error| StorageError::Source(format!("a description: {error}")))
}

/// Writes the description of a content that is there.
///
/// # Errors
/// When the object store fails.
pub async fn note(
    objects: &Objects,
    content: &Content,
    description: &Description,
) -> Result<(), StorageError> {
    let json =
        serde_json::to_vec(description).map_err(|error| StorageError::Source(error.to_string()))?;
    let source = stream::iter([Ok::<_, Infallible>(Bytes::from(json))]);
    objects.write(&description_key(content), source.boxed(), MAX_DESCRIPTION).await?;
    Ok(())
}

/// Whether a content and its description are there.
///
/// # Errors
/// When the object store fails.
pub async fn is_whole(objects: &Objects, content: &Content) -> Result<bool, StorageError> {
    Ok(objects.exists(&description_key(content)).await? && objects.exists(&key(content)).await?)
}

/// Removes a content, its description first.
///
/// # Errors
/// When the object store fails.
pub async fn remove(objects: &Objects, content: &Content) -> Result<(), StorageError> {
    objects.delete(&description_key(content)).await?;
    objects.delete(&key(content)).await
}

/// The content that a key of it, or of its description, belongs to.
#[must_use]
pub fn of_key(key: &str) -> Option<Content> {
    let (folder, name) = key.strip_prefix(CONTENTS)?.strip_prefix('/')?.split_once('/')?;
    let mut parts = folder.split('=');
    let mut org = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        org.append(&mut unhex(code)?);
        org.extend_from_slice(rest.as_bytes());
    }
    let sha256 = sha256_of(name.trim_end_matches(".json"))?;
    Some(Content { org_id: String::from_utf8(org).ok()?, sha256 })
}

/// Opens a content; `None` where there is none.
///
/// # Errors
/// When the object store fails.
pub async fn open(
    objects: &Objects,
    content: &Content,
) -> Result<Option<(Description, Reading)>, StorageError> {
    let Some(description) = describe(objects, content).await? else { return Ok(None) };
    Ok(objects.read(&key(content)).await?.map(|reading| (description, reading)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn organisations_do_not_share_folders_and_do_not_leave_them() {
        let key = |org: &str| key(&Content { org_id: org.to_owned(), sha256: [0; 32] });
        assert!(key("5318290").starts_with("playbooks/5318290/00"));
        assert!(key("../x").starts_with("playbooks/=2e=2e=2fx/"));
        assert_ne!(key("a=2f"), key("a/"));
        for org in ["5318290", "../x", "a=2f", "ä-_/", ""] {
            let content = Content { org_id: org.to_owned(), sha256: [7; 32] };
            assert_eq!(of_key(&super::key(&content)), Some(content.clone()));
            assert_eq!(of_key(&description_key(&content)), Some(content));
        }
        for other in ["playbooks/x", "uploads/x/y", "playbooks/=zz/00", "playbooks/=/00"] {
            assert_eq!(of_key(other), None);
        }
    }
}
