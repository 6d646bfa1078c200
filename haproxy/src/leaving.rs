//! Servers that the next file does not name any more. A process that a reload has replaced answers
//! one more request on each connection that a client has kept, checks nothing any more and takes no
//! orders: it must have let go of such servers before, or it would send to what is gone.

use std::{path::PathBuf, time::Duration};

use crate::socket::{Socket, SocketError};

/// How long an answer may take.
const WITHIN: Duration = Duration::from_secs(5);
/// What is answered for what is not there.
const UNKNOWN: [&str; 2] = ["No such server", "No such backend"];

/// The process that serves, as its master reaches it.
#[derive(Clone, Debug)]
pub struct Serving(Socket);

impl Serving {
    /// The one of the master behind this socket.
    pub fn new(master: impl Into<PathBuf>) -> Self {
        Self(Socket::new(master, WITHIN))
    }

    /// Has it send nothing more to these servers of a backend; what is under way goes on. Only to be
    /// followed by a reload, or by [`Self::take_back`] where that fails: nothing of it is in a file.
    ///
    /// # Errors
    /// When the master does not answer, or the process refuses.
    pub async fn let_go(&self, backend: &str, servers: &[String]) -> Result<(), SocketError> {
        self.set(backend, servers, "maint").await
    }

    /// Has it send to them again.
    ///
    /// # Errors
    /// When the master does not answer, or the process refuses.
    pub async fn take_back(&self, backend: &str, servers: &[String]) -> Result<(), SocketError> {
        self.set(backend, servers, "ready").await
    }

    async fn set(&self, backend: &str, servers: &[String], state: &str) -> Result<(), SocketError> {
        for server in servers {
            // The master's own name for the worker that serves.
            let command = format!("@1 set server {backend}/{server} state {state}");
            let answer = self.0.ask(&command).await?;
            let answer = answer.trim();
            if !answer.is_empty() && !UNKNOWN.iter().any(|word| answer.starts_with(word)) {
                return Err(self.0.strange(&command, answer.as_bytes(), "nothing"));
            }
        }
        Ok(())
    }
}
