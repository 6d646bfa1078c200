//! What a deployment puts on the disk: files, links, directories. Pure data; `files` writes it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Who has to hear of a change of an entry.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Concerns {
    /// The instances: daemon-reload, then one after the other begins anew.
    Instances,
    /// The tracker: daemon-reload, then it begins anew.
    Tracker,
    /// A bundled service: daemon-reload, then it begins anew.
    Service,
    /// The worker on this host: daemon-reload, then it begins anew.
    Worker,
    /// Systemd alone: daemon-reload.
    Systemd,
    /// HAProxy: checked, then reloaded.
    Haproxy,
    /// HAProxy's unit: daemon-reload, then HAProxy is reloaded, or restarted where it is to be started
    /// with another command.
    HaproxyUnit,
    /// systemd-tmpfiles.
    Tmpfiles,
    /// Nobody.
    Nobody,
}

/// What lies at a path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum What {
    /// A file.
    File {
        /// Its bytes.
        content: String,
        /// Its permissions.
        mode: u32,
    },
    /// A symbolic link.
    Link {
        /// What it points to, as written.
        target: PathBuf,
    },
}

/// One thing on the disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Where.
    pub path: PathBuf,
    /// What.
    pub what: What,
    /// Who has to hear of a change of it.
    pub concerns: Concerns,
    /// Whether a diff may show its content.
    pub is_secret: bool,
}
