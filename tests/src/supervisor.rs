//! A service manager as far as a process tells it how it is: the socket of `NOTIFY_SOCKET`.

use std::{
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use crate::process::PATIENCE;

/// How long one look lasts.
const LOOK: Duration = Duration::from_millis(50);

/// The service manager.
pub struct Supervisor {
    socket: UnixDatagram,
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
        socket.set_read_timeout(Some(LOOK))?;
        Ok(Self { socket, path })
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
        let (started, mut said, mut buffer) = (Instant::now(), Vec::new(), [0; 4096]);
        while started.elapsed() < within {
            if let Ok(length) = self.socket.recv(&mut buffer) {
                let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
                said.extend(text.lines().map(str::to_owned));
            }
        }
        said
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
