//! Where things lie on a host. Knows names of directories and files, nothing of what is in them.

use std::path::{Path, PathBuf};

/// The directories of one deployment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Layout {
    /// Whether it is a user's own deployment (rootless).
    pub is_user: bool,
    /// Quadlet's units: `/etc/containers/systemd`, or `~/.config/containers/systemd`.
    pub quadlets: PathBuf,
    /// Plain units: `/etc/systemd/system`, or `~/.config/systemd/user`.
    pub units: PathBuf,
    /// Our settings: `/etc/dispatcher-api`, or `~/.config/dispatcher-api`.
    pub settings: PathBuf,
    /// What quadletgen remembers: `/var/lib/dispatcher-api`, or `~/.local/share/dispatcher-api`.
    pub state: PathBuf,
    /// Sockets: `/run/dispatcher-api`, or `$XDG_RUNTIME_DIR/dispatcher-api`.
    pub runtime: PathBuf,
    /// systemd-tmpfiles: `/etc/tmpfiles.d`, or `~/.config/user-tmpfiles.d`.
    pub tmpfiles: PathBuf,
}

impl Layout {
    /// The system's.
    #[must_use]
    pub fn system() -> Self {
        Self {
            is_user: false,
            quadlets: "/etc/containers/systemd".into(),
            units: "/etc/systemd/system".into(),
            settings: "/etc/dispatcher-api".into(),
            state: "/var/lib/dispatcher-api".into(),
            runtime: "/run/dispatcher-api".into(),
            tmpfiles: "/etc/tmpfiles.d".into(),
        }
    }

    /// A user's own.
    #[must_use]
    pub fn user(home: &Path, runtime: &Path) -> Self {
        Self {
            is_user: true,
            quadlets: home.join(".config/containers/systemd"),
            units: home.join(".config/systemd/user"),
            settings: home.join(".config/dispatcher-api"),
            state: home.join(".local/share/dispatcher-api"),
            runtime: runtime.join("dispatcher-api"),
            tmpfiles: home.join(".config/user-tmpfiles.d"),
        }
    }

    /// What is wanted of this host.
    #[must_use]
    pub fn deploy_file(&self) -> PathBuf {
        self.settings.join("deploy.yml")
    }

    /// What quadletgen made here.
    #[must_use]
    pub fn manifest_file(&self) -> PathBuf {
        self.state.join("manifest.json")
    }

    /// The environment of the instances and of the tracker, without secrets.
    #[must_use]
    pub fn environment_file(&self) -> PathBuf {
        self.settings.join("dispatcher-api.env")
    }
}
