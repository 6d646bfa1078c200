//! Why a command did not do what it was asked, and the exit status that says so to programs.

use std::{io::ErrorKind, process::ExitCode};

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

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
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
        match error {
            HostError::Program(error) => error.into(),
            HostError::Systemd(error) => error.into(),
            HostError::Answer { .. } | HostError::File { .. } => {
                Self::new(Exit::Failed, error.to_string())
            }
        }
    }
}

impl From<ProgramError> for Failure {
    fn from(error: ProgramError) -> Self {
        let exit = match &error {
            ProgramError::Start { source, .. } if source.kind() == ErrorKind::NotFound => {
                Exit::Lacking
            }
            _ => Exit::Failed,
        };
        Self::new(exit, error.to_string())
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

#[cfg(test)]
mod tests {
    use std::{io, time::Duration};

    use super::*;

    const DOCUMENT: &str = include_str!("../../../docs/quadletgen.md");
    const ALL: [Exit; 9] = [
        Exit::Failed,
        Exit::Wrong,
        Exit::Busy,
        Exit::Foreign,
        Exit::Refused,
        Exit::Unhealthy,
        Exit::Lacking,
        Exit::Drift,
        Exit::Interrupted,
    ];

    #[test]
    fn the_document_lists_every_status_and_no_other() {
        let (_, table) = DOCUMENT.split_once("## Exit status").unwrap();
        let (table, _) = table.split_once("\n## ").unwrap();
        let listed: Vec<u8> = table
            .lines()
            .filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse().ok())
            .collect();
        let known: Vec<u8> = std::iter::once(0).chain(ALL.map(|exit| exit as u8)).collect();
        assert_eq!(listed, known);
    }

    fn program(kind: io::ErrorKind) -> ProgramError {
        ProgramError::Start { program: "podman".to_owned(), source: kind.into() }
    }

    fn late() -> SystemdError {
        SystemdError::Late { unit: "a".to_owned(), verb: "stop", limit: Duration::ZERO }
    }

    fn unreachable() -> SystemdError {
        SystemdError::Unreachable(zbus::Error::InvalidReply, false)
    }

    #[test]
    fn what_the_host_lacks_is_told_from_what_failed_on_it() {
        let exit = |failure: Failure| failure.exit;
        assert_eq!(exit(program(ErrorKind::NotFound).into()), Exit::Lacking);
        assert_eq!(exit(HostError::from(program(ErrorKind::NotFound)).into()), Exit::Lacking);
        assert_eq!(exit(program(ErrorKind::PermissionDenied).into()), Exit::Failed);
        assert_eq!(exit(unreachable().into()), Exit::Lacking);
        assert_eq!(exit(HostError::from(unreachable()).into()), Exit::Lacking);
        assert_eq!(exit(late().into()), Exit::Failed);
        let answer = HostError::Answer { program: "podman", what: "?".to_owned() };
        assert_eq!(exit(answer.into()), Exit::Failed);
    }

    #[test]
    fn what_lies_on_the_disk_has_a_status_of_its_own() {
        let exit = |error: FilesError| Failure::from(error).exit;
        let path = || std::path::PathBuf::from("/x");
        assert_eq!(exit(FilesError::Foreign(vec![path()])), Exit::Foreign);
        assert_eq!(exit(FilesError::Newer { path: path(), form: 2, known: 1 }), Exit::Lacking);
        let broken = FilesError::Manifest { path: path(), reason: String::new() };
        assert_eq!(exit(broken), Exit::Failed);
        let source = io::ErrorKind::StorageFull.into();
        assert_eq!(exit(FilesError::Io { path: path(), source }), Exit::Failed);
    }

    #[test]
    fn who_is_wrong_and_who_is_busy_is_told() {
        assert_eq!(Failure::from(Problems::one("a is b")).exit, Exit::Wrong);
        let held = LockError::Held { holder: "process 1".to_owned() };
        assert_eq!(Failure::from(held).exit, Exit::Busy);
        let file = LockError::File { path: "/x".to_owned(), source: ErrorKind::NotFound.into() };
        assert_eq!(Failure::from(file).exit, Exit::Failed);
    }
}
