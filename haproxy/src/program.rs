//! Running a program to its end: bounded in time, its output kept and bounded.

use std::{ffi::OsStr, io, path::Path, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
    time::timeout,
};

/// What of each output is kept.
const MAX_OUTPUT: u64 = 256 * 1024;

/// Why a program did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It could not be started.
    #[error("{program} cannot be started: {source}; is it installed?")]
    NotStarted {
        /// The program.
        program: String,
        /// What happened.
        source: io::Error,
    },
    /// It took too long and was killed.
    #[error("{command} did not end within {} s and was killed", within.as_secs())]
    TooLong {
        /// The program with its arguments.
        command: String,
        /// How long was waited.
        within: Duration,
    },
}

/// How a program ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Whether its status was 0.
    pub is_success: bool,
    /// Its status in words.
    pub status: String,
    /// Both outputs, the ordinary one first.
    pub output: String,
}

/// Runs a program to its end.
///
/// # Errors
/// When it cannot be started, or does not end in time.
pub async fn run(
    program: &Path,
    arguments: &[impl AsRef<OsStr>],
    within: Duration,
) -> Result<Ended, ProgramError> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let not_started =
        |source| ProgramError::NotStarted { program: program.display().to_string(), source };
    let mut child = command.kill_on_drop(true).spawn().map_err(not_started)?;
    let (output, errors) = (child.stdout.take(), child.stderr.take());
    let whole = async {
        let (status, output, errors) = tokio::join!(child.wait(), kept(output), kept(errors));
        status.map(|status| (status, output + &errors))
    };
    let Ok(ended) = timeout(within, whole).await else {
        let words = arguments.iter().map(|word| word.as_ref().to_string_lossy().into_owned());
        let command = std::iter::once(program.display().to_string()).chain(words);
        let command = command.collect::<Vec<_>>().join(" ");
        return Err(ProgramError::TooLong { command, within });
    };
    let (status, output) = ended.map_err(not_started)?;
    Ok(Ended { is_success: status.success(), status: status.to_string(), output })
}

/// The beginning of an output; the rest is read, too, so that the program does not wait.
async fn kept(output: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut output) = output else { return String::new() };
    let mut beginning = Vec::new();
    let read = (&mut output).take(MAX_OUTPUT).read_to_end(&mut beginning).await;
    if read.is_ok() {
        // What cannot be read is not missed.
        drop(tokio::io::copy(&mut output, &mut tokio::io::sink()).await);
    }
    String::from_utf8_lossy(&beginning).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHELL: &str = "/bin/sh";

    #[tokio::test]
    async fn outputs_are_kept_within_bounds_and_the_status_is_told() {
        let script = "echo out; head -c 1000000 /dev/zero >&2; exit 3";
        let ended = run(Path::new(SHELL), &["-c", script], Duration::from_secs(10)).await.unwrap();
        assert!(!ended.is_success && ended.status.contains('3'), "{}", ended.status);
        assert!(ended.output.starts_with("out\n"));
        assert_eq!(ended.output.len(), 4 + 256 * 1024);
    }

    #[tokio::test]
    async fn what_does_not_end_is_killed_and_named() {
        let within = Duration::from_millis(100);
        let error = run(Path::new(SHELL), &["-c", "exec sleep 60"], within).await.unwrap_err();
        assert!(error.to_string().contains("sleep 60"), "{error}");
        let none: [&str; 0] = [];
        let error = run(Path::new("/no/haproxy"), &none, within).await.unwrap_err();
        assert!(error.to_string().starts_with("/no/haproxy cannot be started"), "{error}");
    }
}
