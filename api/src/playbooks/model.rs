//! The types of stored playbooks. No IO.

use time::OffsetDateTime;

/// A stored playbook: a name of an organisation that points at content.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredPlaybook {
    /// The organisation that owns the name.
    pub org_id: String,
    /// The name: 1 to 128 of `[A-Za-z0-9._-]`, not starting with a dot.
    pub name: String,
    /// SHA-256 of the content; also the name of its object.
    pub sha256: [u8; 32],
    /// Bytes.
    pub size: i64,
    /// The file that is run; `None` for a single file.
    pub entry: Option<String>,
    /// When the name first pointed at something.
    pub created_at: OffsetDateTime,
    /// When it last changed.
    pub updated_at: OffsetDateTime,
}
