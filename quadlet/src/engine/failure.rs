//! Why a command did not do what it was asked, and the exit status that says so to programs.

use crate::{
    files::FilesError,
    host::{HostError, lock::LockError, program::ProgramError, systemd::SystemdError},
    render::RenderError,
    variables::Problems,
};

/// Exit statuses; `docs/quadletgen.md` lists them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Exit {
    /// Something on the host failed.
    Failed = 1,
    /// The command line or `deploy.yml` is wrong; nothing was changed.
    Wrong = 2,
    /// Another quadletgen is at work; nothing was changed.
    Busy = 3,
    /// Somebody else's files are in the way; nothing was changed.
    Foreign = 4,
    /// Podman, systemd or HAProxy refuse what would be written; nothing was changed.
    Refused = 5,
    /// An instance or a service did not become healthy.
    Unhealthy = 6,
    /// The host lacks something: too old, not there, not set up; nothing was changed.
    Lacking = 7,
    /// What runs is not what is asked for (`status`).
    Drift = 8,
    /// Ctrl-C: ended at a safe point.
    Interrupted = 130,
}

/// A command that did not do what it was asked.
#[derive(Debug)]
pub struct Failure {
    /// For programs.
    pub exit: Exit,
    /// For people.
    pub text: String,
    /// Of which instance, where one did not become healthy.
    pub instance: Option<u16>,
}

impl Failure {
    /// With this status and text.
    #[must_use]
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into(), instance: None }
    }

    /// The same with more to be said.
    #[must_use]
    pub fn and(mut self, more: &str) -> Self {
        self.text.push('\n');
        self.text.push_str(more);
        self
    }
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        Self::new(Exit::Failed, error.to_string())
    }
}

impl From<ProgramError> for Failure {
    fn from(error: ProgramError) -> Self {
        Self::new(Exit::Failed, error.to_string())
    }
}

impl From<SystemdError> for Failure {
    fn from(error: SystemdError) -> Self {
        let exit = match error {
            SystemdError::Unreachable(..) => Exit::Lacking,
            _ => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        let exit = match error {
            LockError::Held { .. } => Exit::Busy,
            LockError::File { .. } => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<FilesError> for Failure {
    fn from(error: FilesError) -> Self {
        let exit = match error {
            FilesError::Foreign(_) => Exit::Foreign,
            FilesError::Newer { .. } => Exit::Lacking,
            _ => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<Problems> for Failure {
    fn from(error: Problems) -> Self {
        Self::new(Exit::Wrong, error.to_string())
    }
}

impl From<RenderError> for Failure {
    fn from(error: RenderError) -> Self {
        Self::new(Exit::Wrong, error.to_string())
    }
}
