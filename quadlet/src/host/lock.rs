//! One quadletgen at a time: an advisory lock on a file that says who holds it. The kernel gives it
//! back when its holder ends, however that happens.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

/// Why the lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it.
    #[error(
        "another quadletgen is at work on this host: {holder}; wait for it to end, then run this again"
    )]
    Held {
        /// Who, as it wrote itself down.
        holder: String,
    },
    /// Its file cannot be used.
    #[error("the lock file {path} cannot be used: {source}")]
    File {
        /// Where it is.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// The lock; given back when dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock, or says who has it.
    ///
    /// # Errors
    /// When another process holds it, or its file cannot be opened.
    pub fn take(path: &Path, command: &str) -> Result<Self, LockError> {
        let failed = |source| LockError::File { path: path.display().to_string(), source };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(LockError::Held { holder: holder(&mut file) });
            }
            Err(error) => return Err(failed(error.into())),
        }
        file.set_len(0).map_err(failed)?;
        file.write_all(format!("process {}, `{command}`", std::process::id()).as_bytes())
            .map_err(failed)?;
        Ok(Self { _file: file })
    }
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(500).read_to_string(&mut text));
    if read.is_err() || text.is_empty() { "its name is not known yet".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_has_it_and_gets_it_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/lock");
        let first = Lock::take(&path, "quadletgen scale 4").unwrap();
        let text = Lock::take(&path, "quadletgen apply").unwrap_err().to_string();
        assert!(
            text.contains("quadletgen scale 4") && text.contains(&std::process::id().to_string()),
            "{text}"
        );
        drop(first);
        Lock::take(&path, "quadletgen apply").unwrap();
    }
}
