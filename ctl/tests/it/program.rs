//! The program as a child process, in surroundings of its own.

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use crate::fake::Fake;

pub(crate) const KEY: &str = "secretKey123";

/// A home of its own.
pub(crate) struct Home {
    pub(crate) dir: tempfile::TempDir,
}

/// How a call ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// A file in it.
    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The program, told nothing about any dispatcher.
    pub(crate) fn bare(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dispatchctl"));
        command
            .args(args)
            .env_clear()
            .env("HOME", self.dir.path())
            .env("USER", "tester")
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// The program, pointed at this dispatcher.
    pub(crate) fn command(&self, fake: &Fake, args: &[&str]) -> Command {
        let mut command = self.bare(args);
        command
            .env("DISPATCHER_URL", &fake.url)
            .env("DISPATCHER_KEY", KEY)
            .env("DISPATCHER_ORG", "1");
        command
    }

    /// Runs it to its end.
    #[track_caller]
    pub(crate) fn call(&self, fake: &Fake, args: &[&str]) -> Ended {
        ended(self.command(fake, args).output().unwrap())
    }
}

/// Runs it to its end, with this on standard input.
pub(crate) fn fed(command: &mut Command, input: &str) -> Ended {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    ended(child.wait_with_output().unwrap())
}

pub(crate) fn ended(output: Output) -> Ended {
    let ended = Ended {
        status: output.status.code().expect("ended by itself"),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    };
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    assert!(!ended.stdout.contains(KEY) && !ended.stderr.contains(KEY), "{ended:?}");
    ended
}
