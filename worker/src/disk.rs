//! Whether there is room for another run: free space where runs are executed, and how much of it
//! they take already.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::fs::statvfs;

use crate::config::{AgentConfig, DiskLimits};

/// Looks at the disk.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    work_dir: PathBuf,
    limits: DiskLimits,
}

impl Disk {
    /// The disk of an agent.
    pub(crate) fn of(config: &AgentConfig) -> Self {
        Self { work_dir: config.work_dir.clone(), limits: config.disk.clone() }
    }

    /// Why there is no room, where there is none. A disk that cannot be asked is no reason: it will
    /// say so itself.
    pub(crate) async fn trouble(&self) -> Option<String> {
        let disk = self.clone();
        let looked = tokio::task::spawn_blocking(move || disk.look()).await;
        match looked.map_err(io::Error::other).and_then(|looked| looked) {
            Ok(trouble) => trouble,
            Err(error) => {
                tracing::warn!(%error, "the room on the disk is not known");
                None
            }
        }
    }

    fn look(&self) -> io::Result<Option<String>> {
        let DiskLimits { free_min, used_max } = self.limits;
        let shown = self.work_dir.display();
        if free_min > 0 {
            let stat = statvfs(&self.work_dir)?;
            let free = stat.f_bavail.saturating_mul(stat.f_frsize);
            if free < free_min {
                return Ok(Some(format!(
                    "{free} bytes are free where {shown} is, and {free_min} have to be \
                     (WORKER_DISK_FREE_MIN); make room"
                )));
            }
        }
        if used_max > 0 {
            let used = used(&self.work_dir)?;
            if used > used_max {
                return Ok(Some(format!(
                    "{shown} holds {used} bytes, and at most {used_max} are allowed \
                     (WORKER_DISK_MAX); wait until runs end, or allow more"
                )));
            }
        }
        Ok(None)
    }
}

/// How many bytes the files below a directory take. What goes away meanwhile counts as gone.
pub fn used(directory: &Path) -> io::Result<u64> {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let (mut total, mut left) = (0_u64, vec![directory.to_owned()]);
    while let Some(directory) = left.pop() {
        let entries = match fs::read_dir(&directory) {
            Err(error) if gone(&error) => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            match entry.metadata() {
                Err(error) if gone(&error) => {}
                Err(error) => return Err(error),
                Ok(data) if data.is_dir() => left.push(entry.path()),
                Ok(data) => total = total.saturating_add(data.len()),
            }
        }
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(directory: &Path, free_min: u64, used_max: u64) -> Option<String> {
        let limits = DiskLimits { free_min, used_max };
        Disk { work_dir: directory.to_owned(), limits }.look().unwrap()
    }

    #[test]
    fn limits_name_themselves() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("a")).unwrap();
        fs::write(directory.path().join("a/b"), [0; 1000]).unwrap();
        assert_eq!(used(directory.path()).unwrap(), 1000);
        assert_eq!(look(directory.path(), 0, 0), None);
        assert_eq!(look(directory.path(), 1, 1000), None);
        assert!(look(directory.path(), 0, 999).unwrap().contains("WORKER_DISK_MAX"));
        assert!(look(directory.path(), u64::MAX, 0).unwrap().contains("WORKER_DISK_FREE_MIN"));
    }
}
