//! What quadletgen made on this host, and which images it has had: `manifest.json`.
//!
//! Whatever is not in it is not ours, and is neither overwritten nor removed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::{FilesError, write};
use crate::entry::{Concerns, What};

/// How many images are remembered.
const IMAGES: usize = 20;
/// The form of the file. One with a higher number is of a newer quadletgen, and holds what this one
/// would lose.
const FORM: u32 = 1;
/// The most that is read of the file.
const MOST: u64 = 16 * 1024 * 1024;

/// What is remembered of a host.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Manifest {
    /// What was made, by path.
    #[serde(default)]
    pub files: BTreeMap<PathBuf, Made>,
    /// The images that were in use, the newest last.
    #[serde(default)]
    pub images: Vec<Image>,
    /// Names that were given to images, so that they stay on this host.
    #[serde(default)]
    pub tags: BTreeMap<String, Tag>,
    /// Programs that were taken out of an image, by path.
    #[serde(default)]
    pub programs: BTreeMap<PathBuf, Program>,
    /// Places beside which something waits to be put there; a kill leaves it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub waiting: BTreeSet<PathBuf>,
    /// What commands note for those after them.
    #[serde(default)]
    pub notes: Map<String, Value>,
}

/// The image that was given a name.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Tag {
    /// Its identity on this host.
    pub id: String,
    /// Its digest, empty where it has none.
    pub digest: String,
}

/// A program that was taken out of an image.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Program {
    /// SHA-256 of its bytes.
    pub sha256: String,
    /// The image, as the units call it.
    pub image: String,
    /// While it is being put there: SHA-256 of ours that it replaces, empty where there was nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
}

impl Program {
    /// Whether a program with this SHA-256 is ours.
    #[must_use]
    pub fn is(&self, sha256: &str) -> bool {
        self.sha256 == sha256 || self.replaces.as_deref() == Some(sha256)
    }
}

/// Something that was made.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Made {
    /// SHA-256 of the content, or of a link's target.
    pub sha256: String,
    /// Who has to hear when it goes.
    pub concerns: Concerns,
    /// While it is being put there: SHA-256 of what it replaces, empty where there was nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
}

impl Made {
    /// Whether that is what was made, or what was there before a kill.
    #[must_use]
    pub fn is(&self, found: Option<&What>) -> bool {
        let digest = found.map(digest).unwrap_or_default();
        self.sha256 == digest || self.replaces.as_ref() == Some(&digest)
    }

    /// Whether that is somebody else's: we were killed before we had put anything there.
    #[must_use]
    pub fn never_was(&self, found: Option<&What>) -> bool {
        self.replaces.as_deref() == Some("") && found.is_some() && !self.is(found)
    }
}

/// The file.
#[derive(Serialize)]
struct Written<'a> {
    form: u32,
    #[serde(flatten)]
    manifest: &'a Manifest,
}

/// What is read of it first.
#[derive(Deserialize)]
struct Form {
    #[serde(default)]
    form: u32,
}

/// An image that was in use.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Image {
    /// What it was called in the variables.
    pub named: String,
    /// What the units call it: a reference with its digest, or its id.
    pub reference: String,
    /// Since when, in RFC 3339.
    pub since: String,
}

impl Manifest {
    /// Reads it; an empty one where there is none yet.
    ///
    /// # Errors
    /// When it cannot be read or understood, or is of a newer quadletgen.
    pub fn load(path: &Path) -> Result<Self, FilesError> {
        let broken = |reason: String| FilesError::Manifest { path: path.to_owned(), reason };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(FilesError::io(path)(error)),
        };
        let mut bytes = Vec::new();
        file.take(MOST + 1).read_to_end(&mut bytes).map_err(FilesError::io(path))?;
        if bytes.len() as u64 > MOST {
            return Err(broken(format!("it has more than {MOST} bytes")));
        }
        let understood = |error: serde_json::Error| broken(error.to_string());
        let Form { form } = serde_json::from_slice(&bytes).map_err(understood)?;
        if form > FORM {
            return Err(FilesError::Newer { path: path.to_owned(), form, known: FORM });
        }
        serde_json::from_slice(&bytes).map_err(understood)
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// When the system says no.
    pub fn save(&self, path: &Path) -> Result<(), FilesError> {
        let content = serde_json::to_string_pretty(&Written { form: FORM, manifest: self })
            .map_err(|error| FilesError::io(path)(io::Error::other(error)))?;
        write::one(path, &What::File { content: content + "\n", mode: 0o600 })
    }

    /// Notes that a path is ours.
    pub fn note(&mut self, path: &Path, what: &What, concerns: Concerns) {
        let made = Made { sha256: digest(what), concerns, replaces: None };
        self.files.insert(path.to_owned(), made);
    }

    /// Notes that a path will be ours, where this is now.
    pub(super) fn note_coming(
        &mut self,
        path: &Path,
        change: (&What, Concerns),
        now: Option<&What>,
    ) {
        let (what, concerns) = change;
        let replaces = Some(now.map(digest).unwrap_or_default());
        self.files.insert(path.to_owned(), Made { sha256: digest(what), concerns, replaces });
    }

    /// The image that the units are pinned to.
    #[must_use]
    pub fn image(&self) -> Option<&Image> {
        self.images.last()
    }

    /// Notes another image, where it is another.
    pub fn use_image(&mut self, image: Image) {
        if let Some(last) = self.images.last_mut()
            && last.reference == image.reference
        {
            // The same by another name, which is the one that is asked for.
            last.named = image.named;
            return;
        }
        self.images.push(image);
        let surplus = self.images.len().saturating_sub(IMAGES);
        self.images.drain(..surplus);
    }
}

/// SHA-256 in hexadecimal digits.
#[must_use]
pub fn digest(what: &What) -> String {
    let bytes = match what {
        What::File { content, .. } => content.as_bytes(),
        What::Link { target } => target.as_os_str().as_encoded_bytes(),
    };
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
