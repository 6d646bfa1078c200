//! Where a process is in its life, as its probes show it.

use tokio_util::sync::CancellationToken;

/// Shared by the server, which ends, and the routes, which say so.
#[derive(Debug, Default)]
pub struct Lifecycle {
    draining: CancellationToken,
}

impl Lifecycle {
    /// From now on health fails and connections are not kept open.
    pub fn start_draining(&self) {
        self.draining.cancel();
    }

    /// Whether the process is about to end.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Cancelled when the process begins to end.
    #[must_use]
    pub fn draining(&self) -> CancellationToken {
        self.draining.clone()
    }
}
