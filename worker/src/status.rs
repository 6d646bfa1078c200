//! What lies in a state directory, for people who look: whether an agent has it, and which runs are
//! under way. Changes nothing.

use std::{fs::File, io, path::Path};

use rustix::fs::{FlockOperation, flock};
use uuid::Uuid;

use crate::journal::{RunDirs, Stage};

/// What there is.
#[derive(Clone, Debug)]
pub struct Local {
    /// Whether an agent has the directory.
    pub is_running: bool,
    /// Every run there is a directory of, and how far it has come.
    pub runs: Vec<(Uuid, &'static str)>,
}

impl Local {
    /// Looks.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn of(directory: &Path) -> io::Result<Self> {
        let dirs = RunDirs::at(directory);
        let mut runs = Vec::new();
        for run_id in dirs.list()? {
            let stage = dirs.of(run_id).load()?.map(|journal| journal.stage);
            runs.push((run_id, stage.map_or("beginning", word)));
        }
        Ok(Self { is_running: is_locked(&directory.join("lock"))?, runs })
    }
}

const fn word(stage: Stage) -> &'static str {
    match stage {
        Stage::Claimed => "claimed",
        Stage::Starting => "starting",
        Stage::Started => "running",
        Stage::Ended => "ended, to be reported",
    }
}

fn is_locked(path: &Path) -> io::Result<bool> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        opened => Ok(flock(opened?, FlockOperation::NonBlockingLockShared).is_err()),
    }
}
