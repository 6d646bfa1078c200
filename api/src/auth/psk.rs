//! Pre-shared keys of services (contract §1.2): which key belongs to which service.
//!
//! Only digests are kept. A presented key is looked up by its digest under each shared secret, and
//! what was found is compared in constant time; digests are keyed, so that nobody can aim at one.

use std::collections::HashMap;

use auth_tracker::state::ServiceKey;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use time::OffsetDateTime;

use super::{
    caller::{Caller, Way},
    principal::{Kind, OrgScope, Principal, Role},
};
use crate::keyring::{Keyring, hex, unhex};

/// Why a presented `Authorization` header is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PskError {
    /// It is not there.
    Missing,
    /// It is not `PSK <letters and digits>`.
    Malformed,
    /// No service has that key, or has it any more.
    Unknown,
    /// Nobody can tell: what is known of keys is too old.
    Stale,
}

/// Why keys of settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OwnKeysError {
    /// Nobody could tell which of the two is calling.
    #[error("services {0} and {1} have the same key; give each its own (PSK_AUTH_<NAME>)")]
    Ambiguous(String, String),
}

/// The keys that settings name: service, key, organisation and role, as a state has them.
///
/// # Errors
/// When two services have the same key.
pub fn own_keys<'a>(
    keys: impl IntoIterator<Item = (&'a str, &'a str, Option<String>, Role)>,
    keyring: &Keyring,
) -> Result<Vec<ServiceKey>, OwnKeysError> {
    let mut own: Vec<ServiceKey> = Vec::new();
    for (service, key, org_id, role) in keys {
        let digest = keyring.digests_of(key.as_bytes()).next().unwrap_or_default();
        let digest = hex(&digest);
        if let Some(other) = own.iter().find(|own| own.digest == digest) {
            let (one, two) = (other.service.clone(), service.to_owned());
            return Err(OwnKeysError::Ambiguous(one, two));
        }
        own.push(ServiceKey {
            id: format!("env:{service}"),
            service: service.to_owned(),
            org_id,
            role: role.as_str().to_owned(),
            digest,
            expires_at: None,
        });
    }
    Ok(own)
}

struct Entry {
    /// From the settings of this instance: it counts however old the shared state is.
    is_own: bool,
    digest: [u8; 32],
    expires_at: Option<OffsetDateTime>,
    caller: Caller,
}

/// The keys of all services at one moment.
pub struct PskTable {
    by_digest: HashMap<[u8; 32], Entry>,
}

impl std::fmt::Debug for PskTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ids = self.by_digest.values().map(|entry| &entry.caller.key_id);
        f.debug_list().entries(ids).finish()
    }
}

impl PskTable {
    /// Of the keys of a state, those of this instance's settings (`own`) among them. A key that
    /// makes no sense is left out, loudly.
    #[must_use]
    pub fn new(keys: &[ServiceKey], own: &[ServiceKey]) -> Self {
        let mut by_digest = HashMap::with_capacity(keys.len());
        for key in keys {
            match entry(own.contains(key), key) {
                Some(entry) => drop(by_digest.entry(entry.digest).or_insert(entry)),
                None => tracing::error!(
                    key.id,
                    key.service,
                    key.role,
                    "a service's key has an unknown role or no digest; it is nobody's key"
                ),
            }
        }
        Self { by_digest }
    }

    /// The service that presents this `Authorization` header. `is_stale`: what is shared is too
    /// old to go by.
    ///
    /// # Errors
    /// When it is missing, malformed, nobody's key, or nobody can tell.
    pub fn authenticate(
        &self,
        header: Option<&str>,
        keyring: &Keyring,
        now: OffsetDateTime,
        is_stale: bool,
    ) -> Result<Caller, PskError> {
        let key = presented_key(header.ok_or(PskError::Missing)?).ok_or(PskError::Malformed)?;
        let found = keyring.digests_of(key.as_bytes()).find_map(|digest| {
            let entry = self.by_digest.get(&digest)?;
            verify_slices_are_equal(&entry.digest, &digest).is_ok().then_some(entry)
        });
        match found {
            Some(entry) if entry.is_own => Ok(entry.caller.clone()),
            _ if is_stale => Err(PskError::Stale),
            Some(entry) if entry.expires_at.is_none_or(|at| now < at) => Ok(entry.caller.clone()),
            _ => Err(PskError::Unknown),
        }
    }
}

fn entry(is_own: bool, key: &ServiceKey) -> Option<Entry> {
    let principal = Principal {
        kind: Kind::Service,
        id: key.service.clone(),
        org: key.org_id.clone().map_or(OrgScope::All, OrgScope::One),
        role: Role::parse(&key.role)?,
    };
    let caller = Caller {
        principal,
        way: Way::Psk,
        name: None,
        key_id: Some(key.id.clone()),
        expires_at: key.expires_at,
    };
    let digest = unhex(&key.digest)?.try_into().ok()?;
    Some(Entry { is_own, digest, expires_at: key.expires_at, caller })
}

fn presented_key(header: &str) -> Option<&str> {
    let rest = header.strip_prefix("PSK")?;
    let key = rest.trim_start_matches([' ', '\t']);
    let separated = key.len() < rest.len();
    let plain = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (separated && plain).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn keyring() -> Keyring {
        Keyring::parse(&Keyring::generate().unwrap()).unwrap()
    }

    fn of_settings(keys: &[(&str, &str, Option<&str>)], keyring: &Keyring) -> PskTable {
        let keys = keys.iter().map(|(service, key, org)| {
            let role = if org.is_some() { Role::Admin } else { Role::Operator };
            (*service, *key, org.map(str::to_owned), role)
        });
        let own = own_keys(keys, keyring).unwrap();
        PskTable::new(&own, &own)
    }

    fn shared(keyring: &Keyring, key: &str) -> ServiceKey {
        ServiceKey {
            id: "k1".to_owned(),
            service: "tasks".to_owned(),
            org_id: None,
            role: "reader".to_owned(),
            digest: hex(&keyring.digests(key.as_bytes())[0]),
            expires_at: Some(AT + time::Duration::MINUTE),
        }
    }

    #[test]
    fn the_right_key_names_its_service_and_scope() {
        let keyring = keyring();
        let keys = [("tasks", "xwKhCUzgJ8", None), ("local", "abc", Some("local"))];
        let table = of_settings(&keys, &keyring);
        let present = |header| table.authenticate(Some(header), &keyring, AT, false).unwrap();
        let tasks = present("PSK xwKhCUzgJ8").principal;
        assert_eq!((tasks.id.as_str(), tasks.role), ("tasks", Role::Operator));
        assert_eq!(tasks.org, OrgScope::All);
        let local = present("PSK \t abc");
        let principal = &local.principal;
        assert!(principal.may_act_for("local") && !principal.may_act_for("other"));
        assert_eq!(principal.role, Role::Admin);
        assert_eq!(local.key_id.as_deref(), Some("env:local"));
        assert!(!format!("{table:?}").contains("abc"));
    }

    #[test]
    fn everything_else_is_refused_by_kind() {
        let keyring = keyring();
        let table = of_settings(&[("tasks", "abc", None), ("odd", "a-b", None)], &keyring);
        let refused = |header| table.authenticate(header, &keyring, AT, false).unwrap_err();
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
        let keys = ["a", "b"].map(|name| (name, "same", None, Role::Operator));
        let error = own_keys(keys, &keyring()).unwrap_err().to_string();
        assert!(error.contains("services a and b") && !error.contains("same,"), "{error}");
    }

    #[test]
    fn shared_keys_have_a_role_and_an_end_and_survive_new_secrets() {
        let secret = |text: &str| text.split_once(':').unwrap().1.to_owned();
        let (one, two) = (Keyring::generate().unwrap(), Keyring::generate().unwrap());
        let (one, two) = (secret(&one), secret(&two));
        let old = Keyring::parse(&format!("a:{one}")).unwrap();
        let table = PskTable::new(&[shared(&old, "abc")], &[]);
        let both = Keyring::parse(&format!("b:{two},a:{one}")).unwrap();
        let new = Keyring::parse(&format!("b:{two}")).unwrap();
        let ask = |keyring, at| table.authenticate(Some("PSK abc"), keyring, at, false);
        for keyring in [&old, &both] {
            let caller = ask(keyring, AT).unwrap();
            assert_eq!(caller.principal.role, Role::Reader);
            assert_eq!(caller.noted_as(), Some(("service", "k1")));
            assert_eq!(ask(keyring, AT + time::Duration::MINUTE), Err(PskError::Unknown));
        }
        assert_eq!(ask(&new, AT), Err(PskError::Unknown));
    }

    #[test]
    fn when_nobody_can_tell_only_keys_of_the_settings_count() {
        let keyring = keyring();
        let own = own_keys([("own", "own", None, Role::Operator)], &keyring).unwrap();
        let table = PskTable::new(&[own.as_slice(), &[shared(&keyring, "abc")]].concat(), &own);
        let ask = |header| table.authenticate(Some(header), &keyring, AT, true);
        assert_eq!(ask("PSK own").unwrap().principal.id, "own");
        for header in ["PSK abc", "PSK forged"] {
            assert_eq!(ask(header), Err(PskError::Stale), "{header}");
        }
        assert_eq!(ask("Basic x"), Err(PskError::Malformed));
    }

    #[test]
    fn keys_that_make_no_sense_are_nobodys() {
        let keyring = keyring();
        let root = ServiceKey { role: "root".to_owned(), ..shared(&keyring, "abc") };
        let short = ServiceKey { digest: "ab".to_owned(), ..shared(&keyring, "abd") };
        let table = PskTable::new(&[root, short], &[]);
        assert!(table.by_digest.is_empty());
    }
}
