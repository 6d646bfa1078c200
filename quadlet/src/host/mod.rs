//! The host as the engine sees it: systemd over D-Bus, Podman, HAProxy, the journal, the lock.
//!
//! Only this folder talks to them. It does what it is told and says what it found; what is to be
//! done, and in which order, is `engine`'s.

pub mod health;
pub mod journal;
pub mod lock;
pub mod podman;
pub mod ports;
pub mod program;
pub mod secrets;
pub mod systemd;

use std::time::Duration;

use crate::layout::Layout;

/// Whatever a host can answer instead of what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// A program could not be run, or ended badly.
    #[error(transparent)]
    Program(#[from] program::ProgramError),
    /// systemd refused, or cannot be reached.
    #[error(transparent)]
    Systemd(#[from] systemd::SystemdError),
    /// An answer that cannot be understood.
    #[error("{program} answered what cannot be understood: {what}")]
    Answer {
        /// Who answered.
        program: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// A file of the host cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
}

/// One host, with its connections.
#[derive(Debug)]
pub struct Host {
    /// Where things lie on it.
    pub layout: Layout,
    /// Its service manager.
    pub systemd: systemd::Systemd,
    /// Its containers.
    pub podman: podman::Podman,
}

impl Host {
    /// Connects to the host's parts.
    ///
    /// # Errors
    /// When systemd's bus cannot be reached.
    pub async fn connect(layout: Layout) -> Result<Self, HostError> {
        let systemd = systemd::Systemd::connect(layout.is_user).await?;
        Ok(Self { layout, systemd, podman: podman::Podman })
    }

    /// Ends a container's unit that is good for nothing: it may not hear that it is to end.
    ///
    /// # Errors
    /// When Podman or systemd refuses.
    pub async fn end_now(&self, unit: &str) -> Result<(), HostError> {
        let kill = async {
            // Once systemd has begun to stop it, so that it does not start it again.
            tokio::time::sleep(Duration::from_millis(200)).await;
            self.podman.kill(unit).await
        };
        let stop = self.systemd.job(systemd::Verb::Stop, unit, Duration::from_secs(120));
        let (stopped, killed) = futures_util::future::join(stop, kill).await;
        killed?;
        Ok(stopped?)
    }
}
