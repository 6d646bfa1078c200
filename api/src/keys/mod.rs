//! Keys of services: made, replaced and revoked by admins, each in one transaction with its row of
//! the audit log and the new version of the auth state (decision 12). Secrets are shown once and
//! kept as keyed digests.

use std::sync::Arc;

use time::OffsetDateTime;

use crate::{
    auth::principal::{OrgScope, Role},
    keyring::Keyring,
    store::{KeyStore, StoreError},
};

pub mod confirm;
pub mod create;
pub mod format;
pub mod list;
pub mod model;
pub mod revoke;
pub mod rotate;
pub mod routes;
pub mod source;

/// Why a change of a key was not made. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The request is wrong, says how.
    #[error("{0}")]
    Invalid(String),
    /// The caller's organisation may not have such a key.
    #[error(
        "only an admin of all organisations makes keys for others than its own, {0}; leave org_id \
         and all_orgs out"
    )]
    OtherOrg(String),
    /// There is no such key, or none that the caller may see.
    #[error("there is no key {0}; keys list shows those there are")]
    Unknown(String),
    /// It comes from a setting.
    #[error(
        "key {0} comes from the setting {1} and is changed there, on every instance: unset it, \
         and give the service a key of its own here"
    )]
    FromSettings(String, String),
    /// The id is in use: the request was carried out before, or the id was chosen twice.
    #[error(
        "a key {0} exists already; if an earlier request made it and its answer was lost, nobody \
         knows its secret: revoke it and make another under a new id"
    )]
    IdTaken(String),
    /// The service has as many live keys as it may.
    #[error("{0} has two live keys, {keys}; revoke one of them first", keys = .1.join(" and "))]
    TooMany(String, Vec<String>),
    /// It is revoked or has expired.
    #[error("key {0} is revoked or has expired; make a new one instead")]
    NotLive(String),
    /// No secret could be made.
    #[error("the machine has no randomness")]
    NoRandomness,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is done with keys.
#[derive(Clone)]
pub struct Keys {
    /// Where they are.
    pub store: Arc<dyn KeyStore>,
    /// Makes their digests.
    pub keyring: Arc<Keyring>,
    /// The services that have a key in the settings.
    pub in_settings: Vec<String>,
}

impl Keys {
    /// A key that the caller may see.
    ///
    /// # Errors
    /// When there is none, it comes from a setting, or the database fails.
    async fn visible(&self, scope: &OrgScope, id: &str) -> Result<model::ServiceKey, KeyError> {
        if let Some(service) = id.strip_prefix(model::FROM_SETTINGS)
            && *scope == OrgScope::All
            && self.in_settings.iter().any(|known| known == service)
        {
            let setting = format!("PSK_AUTH_{}", service.to_uppercase());
            return Err(KeyError::FromSettings(id.to_owned(), setting));
        }
        let known = dispatcher_wire::service_key::is_id(id);
        let found = if known { self.store.find(id).await? } else { None };
        let seen = found.filter(|key| key.is_visible_to(scope));
        seen.ok_or_else(|| KeyError::Unknown(id.chars().take(64).collect()))
    }
}

/// Now, as precise as databases keep it.
fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc().truncate_to_microsecond()
}

/// The role of that name, else what may be said.
fn role_named(name: Option<&str>) -> Result<Role, KeyError> {
    let Some(name) = name else { return Ok(Role::Operator) };
    Role::parse(name).ok_or_else(|| {
        KeyError::Invalid(format!("role {name:?} is not known; allowed: reader, operator, admin"))
    })
}
