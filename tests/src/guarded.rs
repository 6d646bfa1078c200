//! Programs that end with the test's process, however that ends.
//!
//! Between a test and a program stands a shell, the guard. It starts the program in a session of
//! its own, is told through its input to start it again, and takes the end of its input, which is
//! the end of the test, for the order to kill the whole session and to remove its directory. The
//! guard is the parent: the program's process id stays its own until the guard has been told.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{ChildStdin, ChildStdout, Command, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tempfile::TempDir;

/// Where the program's output is, inside its directory.
pub const LOG: &str = "log";
/// How often a condition is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// `start` starts, `ended` waits for the end; the end of the input ends everything. What else lies
/// in the session is killed with it.
const GUARD: &str = r#"
    trap : INT TERM HUP
    directory=$1 after=$2 child=
    shift 2
    while read -r order; do
        case $order in
        start)
            setsid "$@" </dev/null >>"$directory/log" 2>&1 &
            child=$!
            echo "$child";;
        ended) wait "$child"; echo "$?"; child=;;
        esac
    done
    if [ -n "$child" ]; then kill -s KILL -- "-$child" 2>/dev/null; wait "$child"; fi
    eval "$after"
    rm -rf "$directory"
"#;

/// A program under guard.
pub struct Guarded {
    directory: PathBuf,
    state: Mutex<State>,
}

struct State {
    pid: Option<Pid>,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Guarded {
    /// Prepares a program that belongs to a directory, which is removed at the end. `after` is what
    /// the shell does then, before that.
    ///
    /// # Errors
    /// When the guard cannot be started.
    pub fn new(directory: TempDir, command: &Command, after: &str) -> Result<Self> {
        let directory = directory.keep();
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD, "guard"]).arg(&directory).arg(after);
        guard.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => guard.env(name, value),
                None => guard.env_remove(name),
            };
        }
        guard.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut guard = guard.spawn().context("no shell for the guard of a program")?;
        let orders = guard.stdin.take().context("the guard has an input")?;
        let answers = BufReader::new(guard.stdout.take().context("the guard has an output")?);
        // The guard ends after us; nobody waits for it.
        drop(guard);
        Ok(Self { directory, state: Mutex::new(State { pid: None, orders, answers }) })
    }

    /// Starts the program, which must not be running.
    ///
    /// # Errors
    /// When it is running.
    pub fn start(&self) -> Result<()> {
        let mut state = self.state();
        ensure!(state.pid.is_none(), "{} is running already", self.directory.display());
        let pid = state.ask("start")?;
        state.pid = Pid::from_raw(pid);
        Ok(())
    }

    /// Kills the program and everything in its session, and waits until it is gone.
    ///
    /// # Errors
    /// When it is not running.
    pub fn kill(&self) -> Result<()> {
        self.signal_session(Signal::KILL)?;
        self.reap().map(drop)
    }

    /// Kills the program alone: its children live on, as after a crash.
    ///
    /// # Errors
    /// When it is not running.
    pub fn kill_alone(&self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.reap().map(drop)
    }

    /// Asks the program to end, and waits for it; its exit code.
    ///
    /// # Errors
    /// When it is not running.
    pub fn stop(&self) -> Result<i32> {
        self.signal(Signal::TERM)?;
        self.reap()
    }

    /// Halts the program and everything in its session, until [`Self::resume`].
    ///
    /// # Errors
    /// When it is not running.
    pub fn pause(&self) -> Result<()> {
        self.signal_session(Signal::STOP)
    }

    /// Lets a halted program go on.
    ///
    /// # Errors
    /// When it is not running.
    pub fn resume(&self) -> Result<()> {
        self.signal_session(Signal::CONT)
    }

    /// Sends the program a signal.
    ///
    /// # Errors
    /// When it is not running.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(self.pid()?, signal)?)
    }

    fn signal_session(&self, signal: Signal) -> Result<()> {
        // The session is there a moment after the process is.
        match kill_process_group(self.pid()?, signal) {
            Err(rustix::io::Errno::SRCH) => self.signal(signal),
            sent => Ok(sent?),
        }
    }

    /// Its process id.
    ///
    /// # Errors
    /// When it is not running.
    pub fn pid(&self) -> Result<Pid> {
        self.state().pid.with_context(|| format!("{} is not running", self.directory.display()))
    }

    /// Waits for the end of the program; its exit code, 128 and more for a signal.
    ///
    /// # Errors
    /// When it is not running.
    pub fn reap(&self) -> Result<i32> {
        let mut state = self.state();
        ensure!(state.pid.is_some(), "{} is not running", self.directory.display());
        let code = state.ask("ended")?;
        state.pid = None;
        Ok(code)
    }

    /// Whether the program has ended by itself.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        let Ok(pid) = self.pid() else { return true };
        is_gone(pid)
    }

    /// Its directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The last lines that it wrote, for messages of tests.
    #[must_use]
    pub fn tail(&self) -> String {
        tail(&self.directory.join(LOG))
    }

    /// Waits until something is so; an error, with the program's last words, when it has ended or
    /// the time is over.
    ///
    /// # Errors
    /// See above.
    pub async fn until(&self, what: &str, is_so: impl AsyncFn() -> bool) -> Result<()> {
        let started = Instant::now();
        let patience = crate::process::PATIENCE;
        while !tokio::time::timeout(patience, is_so()).await.unwrap_or(false) {
            if self.has_ended() {
                bail!("it ended before it {what}:\n{}", self.tail());
            }
            ensure!(started.elapsed() < patience, "it never {what}:\n{}", self.tail());
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl State {
    fn ask(&mut self, order: &str) -> Result<i32> {
        writeln!(self.orders, "{order}")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        answer.trim().parse().with_context(|| format!("the guard answered {answer:?} to {order}"))
    }
}

/// Whether a process is gone, or dead and not buried.
#[must_use]
pub fn is_gone(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    let Ok(stat) = stat else { return true };
    // The name, in parentheses, may hold anything; the state follows the last of them.
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}

/// The last lines of a file.
#[must_use]
pub fn tail(file: &Path) -> String {
    let text = std::fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().rev().take(15).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// A directory of a service's own, with a short path (sockets need that).
///
/// # Errors
/// When it cannot be made.
pub fn directory(kind: &str) -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix(&format!("dispatcher-{kind}-")).tempdir_in("/tmp")?)
}

/// A program on the path, or in one of these places.
///
/// # Errors
/// When it is not installed; says what to install.
pub fn program(name: &str, places: &[&Path], install: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let on_path = std::env::split_paths(&path).chain(more);
    let places = places.iter().map(|place| place.to_path_buf());
    let missing = || format!("{name} is not installed, and these tests start their own: {install}");
    places
        .chain(on_path)
        .map(|place| place.join(name))
        .find(|file| file.is_file())
        .with_context(missing)
}
