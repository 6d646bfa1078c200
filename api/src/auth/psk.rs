//! Pre-shared keys of services (contract §1.2): which key belongs to which service.
//!
//! Only digests are kept; a presented key is compared with every one of them in constant time.

use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::principal::{Kind, OrgScope, Principal, Role};
use crate::keyring::Keyring;

/// Why a presented `Authorization` header is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PskError {
    /// It is not there.
    Missing,
    /// It is not `PSK <letters and digits>`.
    Malformed,
    /// No service has that key.
    Unknown,
}

/// Why the table cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PskTableError {
    /// Nobody could tell which of the two is calling.
    #[error("services {0} and {1} have the same key; give each its own (PSK_AUTH_<NAME>)")]
    Ambiguous(String, String),
}

struct Entry {
    service: String,
    digest: Vec<u8>,
    org: OrgScope,
    role: Role,
}

/// The keys of all services.
pub struct PskTable {
    entries: Vec<Entry>,
}

impl std::fmt::Debug for PskTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.entries.iter().map(|entry| &entry.service)).finish()
    }
}

impl PskTable {
    /// A table of service, key, organisation scope and role.
    ///
    /// # Errors
    /// When two services have the same key.
    pub fn new<'a>(
        keys: impl IntoIterator<Item = (&'a str, &'a str, OrgScope, Role)>,
        keyring: &Keyring,
    ) -> Result<Self, PskTableError> {
        let mut entries: Vec<Entry> = Vec::new();
        for (service, key, org, role) in keys {
            let digest = digest(keyring, key);
            if let Some(other) = entries.iter().find(|entry| entry.digest == digest) {
                let (one, two) = (other.service.clone(), service.to_owned());
                return Err(PskTableError::Ambiguous(one, two));
            }
            entries.push(Entry { service: service.to_owned(), digest, org, role });
        }
        Ok(Self { entries })
    }

    /// The service that presents this `Authorization` header.
    ///
    /// # Errors
    /// When it is missing, malformed, or nobody's key.
    pub fn authenticate(
        &self,
        header: Option<&str>,
        keyring: &Keyring,
    ) -> Result<Principal, PskError> {
        let key = presented_key(header.ok_or(PskError::Missing)?).ok_or(PskError::Malformed)?;
        let digest = digest(keyring, key);
        let mut found = None;
        for entry in &self.entries {
            // Every entry is compared, so that time tells nothing about the others.
            if verify_slices_are_equal(&entry.digest, &digest).is_ok() {
                found = Some(entry);
            }
        }
        let entry = found.ok_or(PskError::Unknown)?;
        let (id, org) = (entry.service.clone(), entry.org.clone());
        Ok(Principal { kind: Kind::Service, id, org, role: entry.role })
    }
}

fn presented_key(header: &str) -> Option<&str> {
    let rest = header.strip_prefix("PSK")?;
    let key = rest.trim_start_matches([' ', '\t']);
    let separated = key.len() < rest.len();
    let plain = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (separated && plain).then_some(key)
}

fn digest(keyring: &Keyring, key: &str) -> Vec<u8> {
    keyring.digests(key.as_bytes()).into_iter().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring() -> Keyring {
        Keyring::parse(&Keyring::generate().unwrap()).unwrap()
    }

    #[test]
    fn the_right_key_names_its_service_and_scope() {
        let keyring = keyring();
        let keys = [
            ("tasks", "xwKhCUzgJ8", OrgScope::All, Role::Operator),
            ("local", "abc", OrgScope::One("local".to_owned()), Role::Admin),
        ];
        let table = PskTable::new(keys, &keyring).unwrap();
        let tasks = table.authenticate(Some("PSK xwKhCUzgJ8"), &keyring).unwrap();
        assert_eq!((tasks.id.as_str(), tasks.role), ("tasks", Role::Operator));
        assert_eq!(tasks.org, OrgScope::All);
        let local = table.authenticate(Some("PSK \t abc"), &keyring).unwrap();
        assert_eq!(local.role, Role::Admin);
        assert!(local.may_act_for("local") && !local.may_act_for("other"));
        assert!(!format!("{table:?}").contains("abc"));
    }

    #[test]
    fn everything_else_is_refused_by_kind() {
        let keyring = keyring();
        let keys = [
            ("tasks", "abc", OrgScope::All, Role::Operator),
            ("odd", "a-b", OrgScope::All, Role::Operator),
        ];
        let table = PskTable::new(keys, &keyring).unwrap();
        let refused = |header| table.authenticate(header, &keyring).unwrap_err();
        assert_eq!(refused(None), PskError::Missing);
        for malformed in ["", "PSK", "PSK ", "psk abc", "PSKabc", "PSK a-b", "PSK abc ", "Bearer x"]
        {
            assert_eq!(refused(Some(malformed)), PskError::Malformed, "{malformed}");
        }
        for unknown in ["PSK ab", "PSK abcd", "PSK ABC"] {
            assert_eq!(refused(Some(unknown)), PskError::Unknown, "{unknown}");
        }
    }

    #[test]
    fn one_key_for_two_services_stops_the_start() {
        let keys = ["a", "b"].map(|name| (name, "same", OrgScope::All, Role::Operator));
        let error = PskTable::new(keys, &keyring()).unwrap_err().to_string();
        assert!(error.contains("services a and b") && !error.contains("same,"), "{error}");
    }
}
