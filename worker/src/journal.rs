//! What the worker knows about a run it has taken, on disk, so that a crash at any moment is
//! followed by the right thing: `<work dir>/runs/<run id>/journal.json`.
//!
//! The rule: a playbook is started only after `Starting` is durable, and a run whose journal says
//! `Starting` or later is never started again. Only this file's owner knows paths inside the
//! directory of a run.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use dispatcher_wire::execution::ClaimedRun;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How far the worker has come with a run.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Taken; nothing was started.
    Claimed,
    /// About to be started, or just started.
    Starting,
    /// Started, as this process.
    Started,
    /// Ended; every record is in the spool, the service may not know yet.
    Ended,
}

/// The process a run was started as.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct StartedProcess {
    /// Its id, which is its process group's too.
    pub pid: i32,
    /// When it started, in the kernel's ticks since boot: tells it from a later one with its id.
    pub start_ticks: u64,
}

/// What is known about a run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Journal {
    /// How far it has come.
    pub stage: Stage,
    /// The run as it was handed out, with the claim.
    pub run: ClaimedRun,
    /// Number of the spool's first record.
    #[serde(default)]
    pub spool_base: u64,
    /// How often a worker came back to it before it was started.
    #[serde(default)]
    pub resumed: u32,
    /// The process it was started as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<StartedProcess>,
    /// The cgroup it was to be started in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<PathBuf>,
}

impl Journal {
    /// The journal of a run just taken.
    #[must_use]
    pub const fn claimed(run: ClaimedRun) -> Self {
        Self { stage: Stage::Claimed, run, spool_base: 0, resumed: 0, process: None, cgroup: None }
    }
}

/// The directories of all runs.
#[derive(Clone, Debug)]
pub(crate) struct RunDirs {
    runs: PathBuf,
    trash: PathBuf,
}

/// The directory of one run.
#[derive(Clone, Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
    trash: PathBuf,
}

impl RunDirs {
    /// Those under this directory, which is created; what was being removed is removed.
    pub(crate) fn open(work_dir: &Path) -> io::Result<Self> {
        let dirs = Self::at(work_dir);
        create_dir(&dirs.runs)?;
        if dirs.trash.exists() {
            fs::remove_dir_all(&dirs.trash)?;
        }
        create_dir(&dirs.trash)?;
        Ok(dirs)
    }

    /// Those under this directory, to be looked at.
    pub(crate) fn at(work_dir: &Path) -> Self {
        Self { runs: work_dir.join("runs"), trash: work_dir.join("trash") }
    }

    /// The directory of this run, existing or not.
    pub(crate) fn of(&self, run_id: Uuid) -> RunDir {
        let name = run_id.to_string();
        RunDir { path: self.runs.join(&name), trash: self.trash.join(name) }
    }

    /// Every run there is a directory of.
    pub(crate) fn list(&self) -> io::Result<Vec<Uuid>> {
        let mut found = Vec::new();
        if !self.runs.exists() {
            return Ok(found);
        }
        for entry in fs::read_dir(&self.runs)? {
            let name = entry?.file_name();
            match name.to_str().and_then(|name| Uuid::parse_str(name).ok()) {
                Some(run_id) => found.push(run_id),
                None => tracing::warn!(?name, "a file that is not ours in the directory of runs"),
            }
        }
        Ok(found)
    }
}

impl RunDir {
    /// Creates the directory with this journal in it.
    pub(crate) fn create(&self, journal: &Journal) -> io::Result<()> {
        create_dir(&self.path)?;
        self.save(journal)?;
        self.path.parent().map_or(Ok(()), sync_dir)
    }

    /// Replaces the journal, durably and at once.
    pub(crate) fn save(&self, journal: &Journal) -> io::Result<()> {
        let (file, new) = (self.path.join("journal.json"), self.path.join("journal.json.new"));
        let mut written =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        written.write_all(&serde_json::to_vec_pretty(journal)?)?;
        written.sync_all()?;
        fs::rename(&new, &file)?;
        sync_dir(&self.path)
    }

    /// The journal; none where the crash was before the first one, or where it is unreadable.
    pub(crate) fn load(&self) -> io::Result<Option<Journal>> {
        let bytes = match fs::read(self.path.join("journal.json")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        let journal = serde_json::from_slice(&bytes);
        if let Err(error) = &journal {
            tracing::error!(path = %self.path.display(), %error, "unreadable journal; the run is dropped");
        }
        Ok(journal.ok())
    }

    /// The records.
    pub(crate) fn spool(&self) -> PathBuf {
        self.path.join("spool.ndjson")
    }

    /// Everything that ansible-runner needs and leaves.
    pub(crate) fn private(&self) -> PathBuf {
        self.path.join("private")
    }

    /// Removes what ansible-runner needed and left, secrets included.
    pub(crate) fn clear_private(&self) -> io::Result<()> {
        match fs::remove_dir_all(self.private()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// Removes the directory; a crash in between leaves no half of it behind.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match fs::rename(&self.path, &self.trash) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            renamed => renamed?,
        }
        self.path.parent().map_or(Ok(()), sync_dir)?;
        fs::remove_dir_all(&self.trash)
    }
}

/// Creates a directory for nobody else, and those above it.
pub(crate) fn create_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn journal() -> Journal {
        Journal::claimed(ClaimedRun {
            run_id: Uuid::new_v4(),
            claim: Uuid::new_v4(),
            attempt: 1,
            correlation_id: Uuid::new_v4(),
            name: None,
            url: "https://example.com/a.yml".to_owned(),
            deadline: time::OffsetDateTime::UNIX_EPOCH,
            has_inputs: false,
        })
    }

    #[test]
    fn journals_are_kept_listed_and_removed() {
        let work = tempfile::tempdir().unwrap();
        let dirs = RunDirs::open(work.path()).unwrap();
        let mut journal = journal();
        let dir = dirs.of(journal.run.run_id);
        assert!(dir.load().unwrap().is_none());
        dir.create(&journal).unwrap();
        journal.stage = Stage::Started;
        dir.save(&journal).unwrap();
        let loaded = dir.load().unwrap().unwrap();
        assert_eq!((loaded.stage, loaded.run.claim), (Stage::Started, journal.run.claim));
        assert_eq!(dirs.list().unwrap(), [journal.run.run_id]);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir.path), 0o700);
        assert_eq!(mode(&dir.path.join("journal.json")), 0o600);
        dir.remove().unwrap();
        dir.remove().unwrap();
        assert!(dirs.list().unwrap().is_empty());
        assert_eq!(fs::read_dir(&dirs.trash).unwrap().count(), 0);
    }

    #[test]
    fn an_unreadable_journal_is_none() {
        let work = tempfile::tempdir().unwrap();
        let dirs = RunDirs::open(work.path()).unwrap();
        let dir = dirs.of(Uuid::new_v4());
        create_dir(&dir.path).unwrap();
        fs::write(dir.path.join("journal.json"), "{").unwrap();
        assert!(dir.load().unwrap().is_none());
    }
}
