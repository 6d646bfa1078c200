//! Brings entries to the disk: finds what differs, refuses what is somebody else's, writes.
//!
//! Only paths of entries and of the manifest are touched. Whoever calls holds the lock.

pub mod diff;
pub mod manifest;
mod write;

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

pub use self::manifest::Manifest;
use crate::entry::{Concerns, Entry, What};

/// The most that is read of a file that lies in the way.
const MOST: u64 = 4 * 1024 * 1024;

/// Why the disk is left as it is.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// Files that are not in the manifest, with other content than ours.
    #[error(
        "these are not quadletgen's and stand where its files belong:\n  {}\nmove them away, or \
         remove them, and run this again",
        .0.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join("\n  ")
    )]
    Foreign(Vec<PathBuf>),
    /// The manifest cannot be understood.
    #[error(
        "{path} is broken ({reason}): restore it from a backup; without it quadletgen does not know what is its own. \
         Without a backup move it away: `quadletgen apply` then takes up what is exactly as it would write it"
    )]
    Manifest {
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The manifest is of a newer quadletgen.
    #[error(
        "{path} was written by a newer quadletgen (form {form}, this one knows {known}): use that one, which \
         the image in use has at /usr/bin/quadletgen"
    )]
    Newer {
        /// Where it is.
        path: PathBuf,
        /// Its form.
        form: u32,
        /// The newest that is known here.
        known: u32,
    },
    /// The system says no.
    #[error("{path}: {source}")]
    Io {
        /// What it was about.
        path: PathBuf,
        /// What it says.
        source: io::Error,
    },
}

impl FilesError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}

/// Something on the disk that differs from what is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// Where.
    pub path: PathBuf,
    /// What is there.
    pub before: Option<What>,
    /// What is asked for; nothing: it goes.
    pub after: Option<What>,
    /// Who has to hear of it.
    pub concerns: Concerns,
    /// Whether values in it are masked where it is shown.
    pub is_secret: bool,
    /// Whether somebody else changed what we had written.
    pub is_drift: bool,
}

/// What differs between entries and disk, and what of the manifest is no more asked for.
///
/// # Errors
/// When foreign files are in the way, all of them, or something cannot be read.
pub fn changes(entries: &[Entry], manifest: &Manifest) -> Result<Vec<Change>, FilesError> {
    let mut found = Vec::new();
    let mut foreign = Vec::new();
    for entry in entries {
        let before = look(&entry.path)?;
        if before.as_ref() == Some(&entry.what) {
            continue;
        }
        let made = manifest.files.get(&entry.path).filter(|made| !made.never_was(before.as_ref()));
        if made.is_none() && before.as_ref().is_some_and(|before| !is_alike(before, &entry.what)) {
            foreign.push(entry.path.clone());
            continue;
        }
        let is_drift = made.is_some_and(|made| !made.is(before.as_ref()));
        found.push(Change {
            path: entry.path.clone(),
            before,
            after: Some(entry.what.clone()),
            concerns: entry.concerns,
            is_secret: entry.is_secret,
            is_drift,
        });
    }
    if !foreign.is_empty() {
        return Err(FilesError::Foreign(foreign));
    }
    let is_asked = |path: &Path| entries.iter().any(|entry| entry.path == path);
    for (path, made) in manifest.files.iter().filter(|(path, _)| !is_asked(path)) {
        let before = look(path)?;
        if made.never_was(before.as_ref()) {
            continue;
        }
        let is_drift = !made.is(before.as_ref());
        let concerns = made.concerns;
        let is_secret = path.extension() == Some("env".as_ref());
        let path = path.clone();
        found.push(Change { path, before, after: None, concerns, is_secret, is_drift });
    }
    Ok(found)
}

/// Whether both are the same but for permissions.
fn is_alike(one: &What, other: &What) -> bool {
    match (one, other) {
        (What::File { content: one, .. }, What::File { content: other, .. }) => one == other,
        _ => one == other,
    }
}

/// Whether there is room and leave for what changes bring. Nothing is replaced, and nothing stays but
/// empty directories.
///
/// # Errors
/// When there is not.
pub fn rehearse(
    changes: &[Change],
    manifest: &mut Manifest,
    manifest_path: &Path,
) -> Result<(), FilesError> {
    wait(changes, manifest);
    if manifest.waiting.is_empty() {
        return Ok(());
    }
    manifest.save(manifest_path)?;
    write::rehearse(changes)?;
    manifest.waiting.clear();
    manifest.save(manifest_path)
}

/// Notes what will wait beside its place.
fn wait(changes: &[Change], manifest: &mut Manifest) {
    let written = changes.iter().filter(|change| change.after.is_some());
    manifest.waiting.extend(written.map(|change| change.path.clone()));
}

/// Removes what a kill has left waiting beside its place.
///
/// # Errors
/// When the system says no.
pub fn sweep(manifest: &mut Manifest, manifest_path: &Path) -> Result<(), FilesError> {
    if manifest.waiting.is_empty() {
        return Ok(());
    }
    for path in &manifest.waiting {
        write::sweep(path)?;
    }
    manifest.waiting.clear();
    manifest.save(manifest_path)
}

/// Carries changes out: all new content is on the disk before the first file is replaced, so that a
/// full disk changes nothing. The manifest names each path, and what was there, before anything is
/// put there: after a kill it is known what is ours, and what somebody has put there meanwhile.
///
/// # Errors
/// When the system says no. Doing it again goes on where it stopped.
pub fn carry_out(
    changes: &[Change],
    manifest: &mut Manifest,
    manifest_path: &Path,
) -> Result<(), FilesError> {
    for change in changes {
        if let Some(what) = &change.after {
            let new = (what, change.concerns);
            manifest.note_coming(&change.path, new, change.before.as_ref());
        }
    }
    wait(changes, manifest);
    manifest.save(manifest_path)?;
    write::all(changes)?;
    for change in changes {
        match &change.after {
            Some(what) => manifest.note(&change.path, what, change.concerns),
            None => drop(manifest.files.remove(&change.path)),
        }
    }
    manifest.waiting.clear();
    manifest.save(manifest_path)
}

/// Writes one thing, whole or not at all, whatever is there.
///
/// # Errors
/// When the system says no.
pub fn write(path: &Path, what: &What) -> Result<(), FilesError> {
    write::one(path, what)
}

/// Replaces the content of somebody's file, whole or not at all, where a link leads to, too. Its
/// owner and its permissions stay.
///
/// # Errors
/// When it is not there, or the system says no.
pub fn replace(path: &Path, content: &str) -> Result<(), FilesError> {
    let real = fs::canonicalize(path).map_err(FilesError::io(path))?;
    write::over(&real, content)
}

/// Takes up what is on the disk exactly as it is asked for: it is ours from now on. Those that were not
/// before. They say themselves that they are the toolkit's: made by Ansible, by `render`, or noted in
/// a manifest that was lost; what is not ours could be neither changed nor removed.
///
/// # Errors
/// When something cannot be read, or the manifest not be written.
pub fn adopt(
    entries: &[Entry],
    manifest: &mut Manifest,
    manifest_path: &Path,
) -> Result<Vec<PathBuf>, FilesError> {
    let (before, mut new) = (manifest.clone(), Vec::new());
    for entry in entries {
        if look(&entry.path)?.as_ref() != Some(&entry.what) {
            continue;
        }
        if !manifest.files.contains_key(&entry.path) {
            new.push(entry.path.clone());
        }
        manifest.note(&entry.path, &entry.what, entry.concerns);
    }
    if *manifest != before {
        manifest.save(manifest_path)?;
    }
    Ok(new)
}

/// What is at a path.
///
/// # Errors
/// When it cannot be read, or is neither a file nor a link.
pub fn look(path: &Path) -> Result<Option<What>, FilesError> {
    let about = match fs::symlink_metadata(path) {
        Ok(about) => about,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FilesError::io(path)(error)),
    };
    if about.is_symlink() {
        let target = fs::read_link(path).map_err(FilesError::io(path))?;
        return Ok(Some(What::Link { target }));
    }
    if !about.is_file() || about.len() > MOST {
        return Err(FilesError::Foreign(vec![path.to_owned()]));
    }
    let bytes = fs::read(path).map_err(FilesError::io(path))?;
    let content = String::from_utf8_lossy(&bytes).into_owned();
    Ok(Some(What::File { content, mode: about.permissions().mode() & 0o7777 }))
}
