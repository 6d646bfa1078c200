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

/// The longest name of a stored playbook, in characters.
pub const MAX_NAME: usize = 128;

/// Whether a playbook may have this name.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=MAX_NAME).contains(&name.len()) && !name.starts_with('.') && name.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn names_are_file_names_without_surprises() {
        for name in ["a", "site.yml", "Web-2_x.tar.gz", &"n".repeat(128)] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", ".", "..", ".hidden", "a/b", "a b", "ä", "a\0", &"n".repeat(129)] {
            assert!(!is_name(name), "{name}");
        }
    }
}
