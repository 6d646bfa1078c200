//! Where a process is in its life, as its probes show it.

use std::sync::atomic::{AtomicBool, Ordering};

/// Shared by the server, which ends, and the routes, which say so.
#[derive(Debug, Default)]
pub struct Lifecycle {
    draining: AtomicBool,
}

impl Lifecycle {
    /// From now on health fails and connections are not kept open.
    pub fn start_draining(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    /// Whether the process is about to end.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }
}
