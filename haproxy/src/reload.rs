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
/// How long one question may take; HAProxy answers `reload` when the files have been read.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

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
        let master = Socket::new(path, ANSWER_WITHIN.min(self.within));
        let before = until(deadline, || processes(&master)).await?;
        let answer = until(deadline, || told(&master)).await?;
        if answer.starts_with("Success=0") {
            return Err(ReloadError::Refused { output: answer });
        }
        let has_reloaded =
            |now: &Processes| now.master != before.master || now.reloads > before.reloads;
        let after = until(deadline, || async {
            let now = processes(&master).await?;
            if has_reloaded(&now) { Ok(now) } else { Err(not_yet(&master, &now)) }
        });
        let after = after.await?;
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

async fn processes(master: &Socket) -> Result<Processes, SocketError> {
    let answer = master.ask("show proc").await?;
    let strange = || master.strange("show proc", answer.as_bytes(), "a list with a master");
    Processes::of(&answer).ok_or_else(strange)
}

/// Tells the master. It begins anew at once, and old versions break the connection off for it.
async fn told(master: &Socket) -> Result<String, SocketError> {
    match master.ask("reload").await {
        Err(SocketError::Broken { .. }) => Ok(String::new()),
        answer => answer,
    }
}

fn not_yet(master: &Socket, now: &Processes) -> SocketError {
    let seen = format!("{} reloads", now.reloads);
    master.strange("show proc", seen.as_bytes(), "one reload more")
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
