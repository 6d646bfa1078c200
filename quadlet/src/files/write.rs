//! Writes files and links so that each is either as it was or as it is to be, whatever happens.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
};

use super::{Change, FilesError};
use crate::entry::What;

/// Writes one thing.
pub(super) fn one(path: &Path, what: &What) -> Result<(), FilesError> {
    stage(path, what).and_then(|staged| put(&staged, path)).map_err(FilesError::io(path))
}

/// Replaces the content of a file; owner and permissions stay.
pub(super) fn over(path: &Path, content: &str) -> Result<(), FilesError> {
    let about = fs::metadata(path).map_err(FilesError::io(path))?;
    let what = What::File { content: content.to_owned(), mode: about.mode() & 0o7777 };
    let replaced = stage(path, &what).and_then(|staged| {
        let now = fs::metadata(&staged)?;
        if (now.uid(), now.gid()) != (about.uid(), about.gid()) {
            chown(&staged, Some(about.uid()), Some(about.gid()))?;
            // Which may have taken bits away.
            fs::set_permissions(&staged, about.permissions())?;
        }
        put(&staged, path)
    });
    replaced.map_err(FilesError::io(path))
}

/// Whether there is room and leave for all that is new: it is laid beside its place and taken away.
pub(super) fn rehearse(changes: &[Change]) -> Result<(), FilesError> {
    let staged = stage_all(changes)?;
    for (path, place) in &staged {
        forget(path).map_err(FilesError::io(place))?;
    }
    Ok(())
}

/// Removes what waits beside a place.
pub(super) fn sweep(place: &Path) -> Result<(), FilesError> {
    let waiting = waiting(place);
    // Where even its directory is gone, nothing waits.
    match forget(&waiting) {
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(()),
        ended => ended.map_err(FilesError::io(&waiting)),
    }
}

/// Carries all changes out. What is new lies beside its place before anything is replaced.
pub(super) fn all(changes: &[Change]) -> Result<(), FilesError> {
    let staged = stage_all(changes)?;
    for (from, to) in &staged {
        put(from, to).map_err(FilesError::io(to))?;
    }
    for change in changes.iter().filter(|change| change.after.is_none()) {
        remove(&change.path).map_err(FilesError::io(&change.path))?;
    }
    Ok(())
}

/// Where all that is new waits, and its places; all of it or nothing.
fn stage_all(changes: &[Change]) -> Result<Vec<(PathBuf, &Path)>, FilesError> {
    let mut staged = Vec::new();
    for change in changes {
        let Some(what) = &change.after else { continue };
        match stage(&change.path, what) {
            Ok(path) => staged.push((path, change.path.as_path())),
            Err(error) => {
                staged.iter().for_each(|(path, _)| drop(fs::remove_file(path)));
                return Err(FilesError::io(&change.path)(error));
            }
        }
    }
    Ok(staged)
}

/// Where something waits for its place. Neither systemd, Quadlet nor HAProxy reads such names, and
/// what a crash leaves is overwritten by the next run.
fn waiting(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

fn stage(path: &Path, what: &What) -> io::Result<PathBuf> {
    let waiting = waiting(path);
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    forget(&waiting)?;
    let made = match what {
        What::Link { target } => symlink(target, &waiting),
        What::File { content, mode } => write(&waiting, content, *mode),
    };
    if made.is_err() {
        let _ = fs::remove_file(&waiting);
    }
    made.map(|()| waiting)
}

fn write(path: &Path, content: &str, mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content.as_bytes())?;
    // Not at the creation, where the umask takes bits away.
    file.set_permissions(Permissions::from_mode(mode))?;
    file.sync_all()
}

fn put(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    settle(to)
}

fn remove(path: &Path) -> io::Result<()> {
    forget(path)?;
    settle(path)?;
    // A unit's directory of drop-ins goes with the last of them.
    let directory = path.parent().filter(|directory| is_of_drop_ins(directory));
    if let Some(directory) = directory {
        let _ = fs::remove_dir(directory);
    }
    Ok(())
}

fn is_of_drop_ins(directory: &Path) -> bool {
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".container.d") || name.ends_with(".service.d")
}

fn forget(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes the directory remember.
fn settle(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(directory) => match File::open(directory) {
            Ok(directory) => directory.sync_all(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        },
        None => Ok(()),
    }
}
