//! One question to a socket of HAProxy: bounded in time and size. Knows nothing of what is asked.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::timeout,
};

/// The most that an answer may take: thousands of servers.
const MAX_ANSWER: u64 = 16 * 1024 * 1024;

/// Why a socket gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// It cannot be connected to.
    #[error("HAProxy's socket {} cannot be reached: {source}; {}", path.display(), advice(source))]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// The connection broke.
    #[error("HAProxy's socket {} broke off while it answered {command:?}: {source}", path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What was asked.
        command: String,
        /// What happened.
        source: io::Error,
    },
    /// It took too long.
    #[error(
        "HAProxy's socket {} did not answer {command:?} within {} ms; HAProxy may hang: \
         see its log, and whether the machine is overloaded",
        path.display(), within.as_millis()
    )]
    Silent {
        /// The socket.
        path: PathBuf,
        /// What was asked.
        command: String,
        /// How long was waited.
        within: Duration,
    },
    /// The answer is not one that HAProxy gives.
    #[error(
        "HAProxy's socket {} answered {command:?} with {answer:?}, where {expected} was expected",
        path.display()
    )]
    Strange {
        /// The socket.
        path: PathBuf,
        /// What was asked.
        command: String,
        /// The beginning of the answer.
        answer: String,
        /// What should have been there.
        expected: &'static str,
    },
}

impl SocketError {
    /// Whether it may be otherwise in an instant: while HAProxy begins anew, its sockets refuse.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        let Self::Unreachable { source, .. } = self else { return true };
        !matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
    }
}

fn advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => {
            "HAProxy does not run, or its configuration names another path (stats socket)"
        }
        io::ErrorKind::ConnectionRefused => "HAProxy does not run (systemctl status haproxy)",
        io::ErrorKind::PermissionDenied => "only root and HAProxy's group may use it",
        _ => "see systemctl status haproxy",
    }
}

/// A socket of HAProxy.
#[derive(Clone, Debug)]
pub struct Socket {
    path: PathBuf,
    within: Duration,
}

impl Socket {
    /// The socket at a path; an answer may take so long.
    pub fn new(path: impl Into<PathBuf>, within: Duration) -> Self {
        Self { path: path.into(), within }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The whole answer to a command.
    ///
    /// # Errors
    /// When it cannot be reached, or does not answer whole and in time.
    pub async fn ask(&self, command: &str) -> Result<String, SocketError> {
        let silent = |_| SocketError::Silent {
            path: self.path.clone(),
            command: command.to_owned(),
            within: self.within,
        };
        timeout(self.within, self.exchange(command)).await.map_err(silent)?
    }

    async fn exchange(&self, command: &str) -> Result<String, SocketError> {
        let unreachable = |source| SocketError::Unreachable { path: self.path.clone(), source };
        let stream = UnixStream::connect(&self.path).await.map_err(unreachable)?;
        let broken = |source| SocketError::Broken {
            path: self.path.clone(),
            command: command.to_owned(),
            source,
        };
        let answer = talk(stream, command).await.map_err(broken)?;
        if answer.len() as u64 > MAX_ANSWER {
            return Err(self.strange(command, &answer, "at most 16 MiB"));
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// The error for an answer that cannot be understood.
    pub(crate) fn strange(
        &self,
        command: &str,
        answer: &[u8],
        expected: &'static str,
    ) -> SocketError {
        let beginning = answer.get(..answer.len().min(120)).unwrap_or_default();
        SocketError::Strange {
            path: self.path.clone(),
            command: command.to_owned(),
            answer: String::from_utf8_lossy(beginning).into_owned(),
            expected,
        }
    }
}

async fn talk(mut stream: UnixStream, command: &str) -> io::Result<Vec<u8>> {
    stream.write_all(format!("{command}\n").as_bytes()).await?;
    // A master waits for more questions until it is told that there is none.
    stream.shutdown().await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER + 1).read_to_end(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_that_is_not_there_names_itself_and_the_cure() {
        let socket = Socket::new("/tmp/no/such.sock", Duration::from_secs(1));
        let error = socket.ask("show info").await.unwrap_err().to_string();
        assert!(error.contains("/tmp/no/such.sock"), "{error}");
        assert!(error.contains("stats socket"), "{error}");
    }

    #[tokio::test]
    async fn a_silent_or_endless_socket_is_given_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let socket = Socket::new(&path, Duration::from_millis(100));
        let error = socket.ask("show info").await.unwrap_err();
        assert!(matches!(error, SocketError::Silent { .. }), "{error}");
        let endless = tokio::spawn(async move {
            let _silent = listener.accept().await.unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            while stream.write_all(&[b'x'; 65536]).await.is_ok() {}
        });
        let socket = Socket::new(&path, Duration::from_secs(20));
        let error = socket.ask("show stat").await.unwrap_err();
        assert!(matches!(error, SocketError::Strange { .. }), "{error}");
        endless.await.unwrap();
    }
}
