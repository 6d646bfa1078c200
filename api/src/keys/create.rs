//! Making keys: what a caller may ask for, and one transaction that makes it.

use dispatcher_wire::{
    admin::{MadeKey, NewKey},
    service_key::is_id,
};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::json;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    KeyError, Keys, format, list,
    model::{KeyMade, NewServiceKey, Replaced, ServiceKey},
    now, role_named,
};
use crate::{
    audit::model::{Action, Actor, AuditEntry},
    auth::principal::OrgScope,
};

/// The longest name of a service.
const MAX_SERVICE: usize = 64;
/// The longest organisation id, in characters, as in requests.
const MAX_ORG_ID: usize = 10;

/// Who asks, and for what they may.
#[derive(Clone, Debug)]
pub struct Asking {
    /// For the log.
    pub by: Actor,
    /// Whose keys they may change.
    pub scope: OrgScope,
    /// The organisation that was named, if one was.
    pub org_id: Option<String>,
}

impl Keys {
    /// Makes a key.
    ///
    /// # Errors
    /// When the request is wrong, the id is in use, the service has two live keys, or the database
    /// fails. Nothing was changed then.
    pub async fn create(&self, asking: &Asking, wanted: &NewKey) -> Result<MadeKey, KeyError> {
        let at = now();
        let key = ServiceKey {
            id: chosen_id(wanted.id.as_deref())?,
            service: checked_service(&wanted.service)?,
            org_id: org_of(asking, wanted)?,
            role: role_named(wanted.role.as_deref())?,
            created_at: at,
            created_by: asking.by.name(),
            expires_at: end_of(wanted.expires_at.as_deref(), at)?,
            revoked_at: None,
            revoked_by: None,
        };
        let audit = asking.by.did(Action::KeyCreate, &key.id, key.org_id.as_deref(), at);
        let audit = audit.with(json!({
            "service": key.service, "role": key.role.as_str(), "expires_at": wanted.expires_at,
        }));
        let (secret, auth_version) = self.make(&key, None, &audit).await?;
        Ok(MadeKey {
            secret: secret.expose_secret().to_owned(),
            key: list::view(key, at),
            replaces: None,
            auth_version,
        })
    }

    /// Makes the secret and stores its digest; answers with the secret and the version.
    pub(super) async fn make(
        &self,
        key: &ServiceKey,
        replaces: Option<&Replaced>,
        audit: &AuditEntry,
    ) -> Result<(SecretString, u64), KeyError> {
        let secret = format::fresh_key(&key.id).map_err(|_| KeyError::NoRandomness)?;
        let digests = self.keyring.digests(secret.expose_secret().as_bytes());
        let digest = digests.into_iter().next().unwrap_or_default();
        let new = NewServiceKey { key: key.clone(), digest };
        match self.store.make(&new, replaces, Some(audit)).await? {
            KeyMade::Made { auth_version } => Ok((secret, auth_version)),
            KeyMade::IdTaken => Err(KeyError::IdTaken(key.id.clone())),
            KeyMade::TooMany(ids) => Err(KeyError::TooMany(owner(key), ids)),
            KeyMade::NotLive => {
                let id = replaces.map(|old| old.id.clone()).unwrap_or_default();
                Err(KeyError::NotLive(id))
            }
        }
    }
}

fn owner(key: &ServiceKey) -> String {
    match &key.org_id {
        Some(org_id) => format!("service {} of organisation {org_id}", key.service),
        None => format!("service {}", key.service),
    }
}

/// The id that was chosen, or a fresh one.
pub(super) fn chosen_id(id: Option<&str>) -> Result<String, KeyError> {
    match id {
        Some(id) if is_id(id) => Ok(id.to_owned()),
        Some(_) => {
            let message = "id is not the id of a key: it has 8 letters and digits (A-Z a-z 0-9)";
            Err(KeyError::Invalid(message.to_owned()))
        }
        None => format::fresh_id().map_err(|_| KeyError::NoRandomness),
    }
}

/// The end of a key, which must be to come.
pub(super) fn end_of(
    text: Option<&str>,
    now: OffsetDateTime,
) -> Result<Option<OffsetDateTime>, KeyError> {
    let Some(text) = text else { return Ok(None) };
    let at = OffsetDateTime::parse(text, &Rfc3339).ok();
    let at = at.map(|at| at.truncate_to_microsecond()).filter(|at| *at > now);
    at.map(Some).ok_or_else(|| {
        let text: String = text.chars().take(64).collect();
        KeyError::Invalid(format!(
            "expires_at {text:?} is not a time to come; allowed: 2027-01-31T12:00:00Z"
        ))
    })
}

fn checked_service(name: &str) -> Result<String, KeyError> {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    if (1..=MAX_SERVICE).contains(&name.len()) && name.bytes().all(allowed) {
        return Ok(name.to_owned());
    }
    Err(KeyError::Invalid(format!(
        "service is not the name of one: 1 to {MAX_SERVICE} of a-z 0-9 . _ -"
    )))
}

/// The organisation that the key is bound to: the one that is named, else the caller's own. Keys for
/// every organisation have to be asked for.
fn org_of(asking: &Asking, wanted: &NewKey) -> Result<Option<String>, KeyError> {
    let named = wanted.org_id.as_deref();
    if wanted.all_orgs && named.is_some() {
        return Err(KeyError::Invalid("give org_id or all_orgs, not both".to_owned()));
    }
    if let OrgScope::One(own) = &asking.scope {
        let fits = !wanted.all_orgs && named.is_none_or(|named| named == own);
        return if fits { Ok(Some(own.clone())) } else { Err(KeyError::OtherOrg(own.clone())) };
    }
    if wanted.all_orgs {
        return Ok(None);
    }
    let org_id = named.or(asking.org_id.as_deref()).ok_or_else(|| {
        KeyError::Invalid(
            "say for whom the key is: org_id for one organisation, or all_orgs: true".to_owned(),
        )
    })?;
    let plain = org_id.chars().all(|character| !character.is_control());
    if plain && (1..=MAX_ORG_ID).contains(&org_id.chars().count()) {
        return Ok(Some(org_id.to_owned()));
    }
    Err(KeyError::Invalid(format!("org_id has 1 to {MAX_ORG_ID} characters")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asking(scope: OrgScope, org_id: Option<&str>) -> Asking {
        Asking { by: Actor::on_host("root"), scope, org_id: org_id.map(str::to_owned) }
    }

    #[test]
    fn a_key_is_bound_to_one_organisation_unless_asked_otherwise() {
        let wanted = |org_id: Option<&str>, all_orgs| NewKey {
            org_id: org_id.map(str::to_owned),
            all_orgs,
            ..NewKey::default()
        };
        let all = |named| asking(OrgScope::All, named);
        let one = || asking(OrgScope::One("1".to_owned()), Some("1"));
        let org =
            |asking: &Asking, wanted: &NewKey| org_of(asking, wanted).map_err(|e| e.to_string());
        assert_eq!(org(&all(None), &wanted(None, true)), Ok(None));
        assert_eq!(org(&all(None), &wanted(Some("2"), false)), Ok(Some("2".to_owned())));
        assert_eq!(org(&all(Some("3")), &wanted(None, false)), Ok(Some("3".to_owned())));
        assert!(org(&all(None), &wanted(None, false)).unwrap_err().contains("for whom"));
        assert!(org(&all(None), &wanted(Some("2"), true)).unwrap_err().contains("not both"));
        assert!(org(&all(None), &wanted(Some(""), false)).is_err());
        assert!(org(&all(None), &wanted(Some("12345678901"), false)).is_err());
        assert_eq!(org(&one(), &wanted(None, false)), Ok(Some("1".to_owned())));
        assert_eq!(org(&one(), &wanted(Some("1"), false)), Ok(Some("1".to_owned())));
        for other in [wanted(Some("2"), false), wanted(None, true)] {
            assert!(org(&one(), &other).unwrap_err().contains("its own, 1"));
        }
    }

    #[test]
    fn names_and_ends_are_checked() {
        for good in ["a", "remediations", "config-manager", "x.y_z-1"] {
            assert_eq!(checked_service(good).unwrap(), good);
        }
        for bad in ["", "Upper", "a b", "a/b", &"x".repeat(65)] {
            assert!(checked_service(bad).is_err(), "{bad}");
        }
        let now = OffsetDateTime::UNIX_EPOCH;
        assert!(end_of(None, now).unwrap().is_none());
        assert!(end_of(Some("1970-01-01T00:00:01Z"), now).unwrap().is_some());
        for bad in ["1970-01-01T00:00:00Z", "tomorrow", ""] {
            assert!(end_of(Some(bad), now).is_err(), "{bad}");
        }
        assert!(chosen_id(Some("short")).is_err());
        assert_eq!(chosen_id(Some("abcd1234")).unwrap(), "abcd1234");
    }
}
