//! Settings of stored playbooks. What a bundle may hold is fixed, since workers check it too (see
//! `playbooks/bundle.rs`).

use super::source::{Source, Spec};

const MAX_SIZE: Spec = Spec {
    names: &["PLAYBOOK_MAX_SIZE"],
    about: "The most that a stored playbook (a file or a tar bundle, as sent) may take, in bytes.",
    allowed: "1024 to 67108864",
    secret: false,
};

/// Settings of stored playbooks.
#[derive(Clone, Debug)]
pub struct PlaybookSettings {
    /// The most that one may take as sent, in bytes.
    pub max_size: u64,
}

impl PlaybookSettings {
    /// Reads them.
    pub fn read(source: &mut Source) -> Self {
        Self { max_size: source.within(&MAX_SIZE, 64 << 20, 1024..=64 << 20) }
    }
}
