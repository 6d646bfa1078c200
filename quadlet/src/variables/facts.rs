//! What of the host itself matters to the variables.

use std::fs;

use crate::layout::Layout;

/// Facts of a host.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Facts {
    /// Its name.
    pub hostname: String,
    /// Whether SELinux enforces, so that HAProxy may not use sockets of containers.
    pub selinux: bool,
    /// Whether it is a user's own deployment.
    pub rootless: bool,
}

impl Facts {
    /// Those of this host.
    #[must_use]
    pub fn of_host(layout: &Layout) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let hostname = read("/proc/sys/kernel/hostname");
        Self {
            hostname: if hostname.is_empty() { "localhost".to_owned() } else { hostname },
            selinux: read("/sys/fs/selinux/enforce") == "1",
            rootless: layout.is_user,
        }
    }
}
