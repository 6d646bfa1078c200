//! A reload that is known to have worked: told to HAProxy, waited for until the new process serves.
//!
//! In an instant of a reload nobody answers at the sockets; that is waited for, too.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use tokio::time::{Instant as Deadline, sleep_until};

use crate::{
    processes::Processes,
    program::{ProgramError, run},
    socket::{Socket, SocketError},
    stats::{Info, Stats},
};

/// How often the sockets are looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
const LIST: &str = "show proc";
/// How long the master may take to list its processes, before it is asked again: it may begin anew
/// just then.
const LIST_WITHIN: Duration = Duration::from_millis(500);
/// How long it may take to say what became of a reload: the files have been read then.
const TELL_WITHIN: Duration = Duration::from_secs(10);
/// Within which the master must count a reload that it was told.
const SEEN_WITHIN: Duration = Duration::from_secs(5);

/// How HAProxy is told.
#[derive(Clone, Debug)]
pub enum Way {
    /// By the socket of its master (`-S`), which says whether it worked.
    Master(PathBuf),
    /// By a command, such as `systemctl reload haproxy`: the program and its arguments.
    Command(PathBuf, Vec<String>),
}

/// A reload.
#[derive(Clone, Debug)]
pub struct Reload {
    /// How HAProxy is told.
    pub way: Way,
    /// The statistics socket, at which the new process is seen.
    pub stats: PathBuf,
    /// How long all of it may take.
    pub within: Duration,
}

/// A reload that worked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reloaded {
    /// The process that serves now.
    pub pid: u32,
    /// How long it took.
    pub took: Duration,
}

/// Why a reload did not work.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// HAProxy refused its files.
    #[error(
        "HAProxy did not take its new configuration and serves on with the old one{}",
        indented(output)
    )]
    Refused {
        /// What it said.
        output: String,
    },
    /// The command failed.
    #[error("{command} failed ({status}); HAProxy serves on as before{}", indented(output))]
    Failed {
        /// The command.
        command: String,
        /// How it ended.
        status: String,
        /// What it said.
        output: String,
    },
    /// The command could not be run.
    #[error("HAProxy cannot be told to reload: {0}")]
    Program(#[from] ProgramError),
    /// The new process was not seen.
    #[error(
        "HAProxy was told to reload, but within {} s no new process served at {}: {last}; \
         see journalctl -u haproxy",
        within.as_secs(), stats.display()
    )]
    NotSeen {
        /// The statistics socket.
        stats: PathBuf,
        /// How long was waited.
        within: Duration,
        /// What was seen last.
        last: String,
    },
    /// A socket that should answer did not.
    #[error("HAProxy cannot be reloaded: {0}")]
    Socket(#[from] SocketError),
}

fn indented(output: &str) -> String {
    let lines = output.lines().filter(|line| !line.trim().is_empty() && *line != "--");
    lines.take(20).map(|line| format!("\n  {line}")).collect()
}

impl Reload {
    /// Reloads, and returns when the new process serves.
    ///
    /// # Errors
    /// When HAProxy refuses, with its words, or when no new process is seen in time. The old one
    /// then serves on.
    pub async fn run(&self) -> Result<Reloaded, ReloadError> {
        let started = Instant::now();
        let deadline = Deadline::now() + self.within;
        let pid = match &self.way {
            Way::Master(path) => self.by_master(path.clone(), deadline).await?,
            Way::Command(program, arguments) => {
                self.by_command(program, arguments, deadline).await?
            }
        };
        Ok(Reloaded { pid, took: started.elapsed() })
    }

    async fn by_master(&self, path: PathBuf, deadline: Deadline) -> Result<u32, ReloadError> {
        let master = Master::at(path);
        let before = until(deadline, || master.processes()).await?;
        let after = loop {
            match until(deadline, || master.told()).await? {
                answer if answer.starts_with("Success=0") => {
                    return Err(ReloadError::Refused { output: answer });
                }
                _ => {}
            }
            // What was told in the instant of another reload is lost: it is told again.
            let seen = (Deadline::now() + SEEN_WITHIN).min(deadline);
            match until(seen, || master.reloaded_since(&before)).await {
                Ok(after) => break after,
                Err(error) if Deadline::now() >= deadline => return Err(error.into()),
                Err(_) => {}
            }
        };
        if after.failed > 0 {
            let output = "its master counts the reload as failed: see haproxy -c".to_owned();
            return Err(ReloadError::Refused { output });
        }
        let is_new = |info: &Info| after.worker.is_none_or(|worker| worker == info.pid);
        self.seen(deadline, is_new).await
    }

    async fn by_command(
        &self,
        program: &std::path::Path,
        arguments: &[String],
        deadline: Deadline,
    ) -> Result<u32, ReloadError> {
        let before = Stats::new(&self.stats).info().await.ok().map(|info| info.pid);
        let ended = run(program, arguments, self.within).await?;
        if !ended.is_success {
            let command = format!("{} {}", program.display(), arguments.join(" "));
            let (status, output) = (ended.status, ended.output);
            return Err(ReloadError::Failed { command, status, output });
        }
        self.seen(deadline, |info| Some(info.pid) != before).await
    }

    /// Waits until a new process serves at the statistics socket.
    async fn seen(
        &self,
        deadline: Deadline,
        is_new: impl Fn(&Info) -> bool,
    ) -> Result<u32, ReloadError> {
        let stats = Stats::new(&self.stats);
        loop {
            let last = match stats.info().await {
                Ok(info) if is_new(&info) && !info.is_stopping => return Ok(info.pid),
                Ok(info) => format!("process {} still serves", info.pid),
                Err(error) => error.to_string(),
            };
            if Deadline::now() >= deadline {
                let (stats, within) = (self.stats.clone(), self.within);
                return Err(ReloadError::NotSeen { stats, within, last });
            }
            sleep_until((Deadline::now() + LOOK_AGAIN).min(deadline)).await;
        }
    }
}

/// The socket of a master, with a patience for each question.
struct Master {
    listing: Socket,
    telling: Socket,
}

impl Master {
    fn at(path: PathBuf) -> Self {
        let listing = Socket::new(&path, LIST_WITHIN);
        Self { listing, telling: Socket::new(path, TELL_WITHIN) }
    }

    async fn processes(&self) -> Result<Processes, SocketError> {
        let answer = self.listing.ask(LIST).await?;
        let strange = || self.listing.strange(LIST, answer.as_bytes(), "a list with a master");
        Processes::of(&answer).ok_or_else(strange)
    }

    /// Tells it to reload. It begins anew at once, and old versions break the connection off for
    /// it, or leave it without an answer.
    async fn told(&self) -> Result<String, SocketError> {
        match self.telling.ask("reload").await {
            Err(SocketError::Broken { .. } | SocketError::Silent { .. }) => Ok(String::new()),
            answer => answer,
        }
    }

    async fn reloaded_since(&self, before: &Processes) -> Result<Processes, SocketError> {
        let now = self.processes().await?;
        if now.master != before.master || now.reloads > before.reloads {
            return Ok(now);
        }
        let seen = format!("{} reloads", now.reloads);
        Err(self.listing.strange(LIST, seen.as_bytes(), "one reload more"))
    }
}

/// Tries until it works or the time is over: in an instant of a reload the socket refuses.
async fn until<T, F>(deadline: Deadline, attempt: impl Fn() -> F) -> Result<T, SocketError>
where
    F: Future<Output = Result<T, SocketError>>,
{
    loop {
        match attempt().await {
            Err(error) if error.may_pass() && Deadline::now() < deadline => {
                sleep_until((Deadline::now() + LOOK_AGAIN).min(deadline)).await;
            }
            ended => return ended,
        }
    }
}
