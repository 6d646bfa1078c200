//! Running another program: its own process group (Ctrl-C is for us alone), a time limit, what it
//! printed kept and bounded. Arguments never carry secrets; those go by standard input.

use std::{process::Stdio, time::Duration};

use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

/// The longest output that is kept; more than any program here prints.
const MOST_OUTPUT: usize = 4 << 20;

/// A program that did not do what it was run for.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It could not be started.
    #[error("{program} cannot be run: {source}{}", advice(.program, .source))]
    Start {
        /// Which.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// It ended with an error.
    #[error("`{command}` failed ({status}): {said}")]
    Failed {
        /// As it was run.
        command: String,
        /// How it ended.
        status: String,
        /// What it printed.
        said: String,
    },
    /// It did not end in time.
    #[error("`{command}` did not end within {} s", .limit.as_secs())]
    Late {
        /// As it was run.
        command: String,
        /// How long it had.
        limit: Duration,
    },
}

fn advice(program: &str, source: &std::io::Error) -> String {
    if source.kind() == std::io::ErrorKind::NotFound {
        format!("; install the package that has {program}")
    } else {
        String::new()
    }
}

/// What a program printed, and how it ended.
#[derive(Clone, Debug)]
pub struct Output {
    /// Whether it ended with status 0.
    pub is_success: bool,
    /// Its status in words.
    pub status: String,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Output {
    /// What it said about a failure, on one stream or the other.
    #[must_use]
    pub fn said(&self) -> String {
        let text = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        text.trim().to_owned()
    }
}

/// A program with its arguments.
#[derive(Clone, Debug)]
pub struct Program {
    name: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    limit: Duration,
}

impl Program {
    /// A program of this name, found on the path.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            arguments: Vec::new(),
            environment: Vec::new(),
            limit: Duration::from_secs(60),
        }
    }

    /// With these arguments too.
    #[must_use]
    pub fn args<I, S>(mut self, arguments: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// With this in its environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this long to end, instead of a minute.
    #[must_use]
    pub fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// As one would type it.
    #[must_use]
    pub fn shown(&self) -> String {
        std::iter::once(self.name.as_str())
            .chain(self.arguments.iter().map(String::as_str))
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Runs it to its end, whatever that is.
    ///
    /// # Errors
    /// When it cannot be started or does not end in time.
    pub async fn output(&self, input: Option<&[u8]>) -> Result<Output, ProgramError> {
        let start = |source| ProgramError::Start { program: self.name.clone(), source };
        let mut child = Command::new(&self.name)
            .args(&self.arguments)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(start)?;
        let work = async {
            if let (Some(mut pipe), Some(input)) = (child.stdin.take(), input) {
                // A program that does not read its input says itself what is wrong.
                let _unread = pipe.write_all(input).await;
            }
            child.wait_with_output().await
        };
        let output = timeout(self.limit, work)
            .await
            .map_err(|_elapsed| ProgramError::Late { command: self.shown(), limit: self.limit })?
            .map_err(start)?;
        Ok(Output {
            is_success: output.status.success(),
            status: output.status.to_string(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        })
    }

    /// Runs it and answers with its standard output.
    ///
    /// # Errors
    /// As [`Self::output`], and when it ends with another status than 0.
    pub async fn run(&self) -> Result<String, ProgramError> {
        self.run_with(None).await
    }

    /// The same with this on its standard input.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_with(&self, input: Option<&[u8]>) -> Result<String, ProgramError> {
        let output = self.output(input).await?;
        if output.is_success {
            return Ok(output.stdout);
        }
        Err(ProgramError::Failed {
            command: self.shown(),
            said: output.said(),
            status: output.status,
        })
    }
}

fn text(bytes: &[u8]) -> String {
    let kept = bytes.get(..MOST_OUTPUT).unwrap_or(bytes);
    String::from_utf8_lossy(kept).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failure_names_the_command_and_what_it_said() {
        let error = Program::new("sh")
            .args(["-c", "echo nothing there >&2; exit 3"])
            .run()
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("exit status: 3") && text.contains("nothing there"), "{text}");
    }

    #[tokio::test]
    async fn an_unknown_program_is_named_with_advice() {
        let text = Program::new("no-such-program-here").run().await.unwrap_err().to_string();
        assert!(text.contains("no-such-program-here") && text.contains("install"), "{text}");
    }

    #[tokio::test]
    async fn what_hangs_is_ended() {
        let program = Program::new("sleep").args(["60"]).within(Duration::from_millis(50));
        assert!(matches!(program.run().await, Err(ProgramError::Late { .. })));
    }

    #[tokio::test]
    async fn input_arrives() {
        assert_eq!(Program::new("cat").run_with(Some(b"secret")).await.unwrap(), "secret");
    }
}
