//! A service manager as far as a process tells it how it is: the socket of `NOTIFY_SOCKET`.

use std::{
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    sync::mpsc::{self, Receiver, Sender},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use crate::process::PATIENCE;

/// How long one look lasts.
const LOOK: Duration = Duration::from_millis(50);

/// How long nothing comes when nothing is on its way any more.
const QUIET: Duration = Duration::from_millis(200);

/// The service manager.
pub struct Supervisor {
    said: Receiver<String>,
    path: PathBuf,
}

impl Supervisor {
    /// Listens on a socket in this directory.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn beside(directory: &Path) -> Result<Self> {
        let path = directory.join("notify");
        let socket = UnixDatagram::bind(&path)?;
        let (sender, said) = mpsc::channel();
        // All the time, as a service manager does: few signs have room in a socket, and whoever
        // gives more of them waits.
        std::thread::spawn(move || listen(&socket, &sender));
        Ok(Self { said, path })
    }

    /// What a process is told of it, where it asks for a sign of life within this time.
    #[must_use]
    pub fn variables(&self, watchdog: Duration) -> [(&'static str, String); 2] {
        let path = self.path.display().to_string();
        [("NOTIFY_SOCKET", path), ("WATCHDOG_USEC", watchdog.as_micros().to_string())]
    }

    /// What is said within this time.
    #[must_use]
    pub fn hears(&self, within: Duration) -> Vec<String> {
        let (started, mut said) = (Instant::now(), Vec::new());
        let left = || within.saturating_sub(started.elapsed());
        while let Ok(line) = self.said.recv_timeout(left()) {
            said.push(line);
        }
        said
    }

    /// Waits until a process is stopped, and has listened to everything that it said before.
    ///
    /// # Errors
    /// When it is not stopped in time.
    pub fn until_stopped(&self, pid: u32) -> Result<()> {
        let started = Instant::now();
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
            // The name, in parentheses, may hold anything; the state follows the last of them.
            if stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')) {
                break;
            }
            ensure!(started.elapsed() < PATIENCE, "{pid} is not stopped");
            std::thread::sleep(LOOK);
        }
        while !self.hears(QUIET).is_empty() {
            ensure!(started.elapsed() < PATIENCE, "{pid} is stopped and goes on");
        }
        Ok(())
    }

    /// Listens until a line is said that begins so; everything that was said until then.
    ///
    /// # Errors
    /// When it is not said in time.
    pub fn hears_of(&self, what: &str) -> Result<Vec<String>> {
        let (started, mut said) = (Instant::now(), Vec::new());
        while !said.iter().any(|line: &String| line.starts_with(what)) {
            ensure!(started.elapsed() < PATIENCE, "{what} was never said, but {said:?}");
            said.extend(self.hears(LOOK));
        }
        Ok(said)
    }
}

/// Reads what is said for as long as somebody wants it.
fn listen(socket: &UnixDatagram, sender: &Sender<String>) {
    let mut buffer = [0; 4096];
    while let Ok(length) = socket.recv(&mut buffer) {
        let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
        if text.lines().any(|line| sender.send(line.to_owned()).is_err()) {
            return;
        }
    }
}
