//! What admins read and send: the audit log, keys of services.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// A row of the audit log.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct AuditView {
    /// Grows; the order of the log.
    pub id: i64,
    /// RFC 3339, UTC.
    pub at: String,
    /// Whose the changed thing is; absent: no single organisation's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org_id: Option<String>,
    /// What kind of caller it was.
    pub principal_kind: String,
    /// Its name.
    pub principal_id: String,
    /// Its role at the time.
    pub role: String,
    /// What was done: `run.dispatch`, `key.revoke`, …
    pub action: String,
    /// To what.
    pub target: String,
    /// In which request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// More, by action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Value>,
}

/// A process of the service.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct InstanceView {
    /// New with every start.
    pub id: Uuid,
    /// `api` or `auth-tracker`.
    pub kind: String,
    /// What people call it.
    pub name: String,
    /// The host it runs on.
    pub host: String,
    /// The version of its program.
    pub version: String,
    /// When it was started.
    pub started_at: String,
    /// Its last sign of life.
    pub seen_at: String,
    /// Whether that was a moment ago.
    pub live: bool,
    /// Whether it is about to end.
    pub draining: bool,
    /// The version of the keys that it has in force; 0: none yet.
    pub auth_version: u64,
}

/// A key of a service, without its secret.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct KeyView {
    /// Its id: the first characters of the key; `env:<service>` for one from a setting.
    pub id: String,
    /// The service it belongs to.
    pub service: String,
    /// The only organisation it may act for; absent: every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org_id: Option<String>,
    /// `reader`, `operator` or `admin`.
    pub role: String,
    /// `database`, or `settings` for one that is changed on the service's hosts.
    pub source: String,
    /// `live`, `expired` or `revoked`.
    pub state: String,
    /// RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
    /// Kind and name of who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// From then on it is nobody's key (RFC 3339, UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// RFC 3339, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<String>,
    /// Kind and name of who revoked it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_by: Option<String>,
}

/// What a key is to be.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// An id of the caller's choice, so that a repeated request makes no second key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The service it belongs to.
    pub service: String,
    /// `reader`, `operator` or `admin`; `operator` where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// The only organisation it may act for; the caller's where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub org_id: Option<String>,
    /// It may act for every organisation.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all_orgs: bool,
    /// From then on it is nobody's key (RFC 3339); absent: it has no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// How a key is replaced.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rotation {
    /// The successor's id, of the caller's choice, so that a repeated request makes no second key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// How long the old key goes on, in seconds; a day where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap_seconds: Option<u64>,
    /// The successor's end (RFC 3339); absent: it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// A key that was just made. The only answer that ever holds the secret; its `Debug` hides it.
#[derive(Clone, Deserialize, Serialize)]
pub struct MadeKey {
    /// The whole key.
    pub secret: String,
    /// What it is.
    pub key: KeyView,
    /// The key that it replaces, with its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<KeyView>,
    /// The version of the auth state from which on it counts.
    pub auth_version: u64,
}

impl std::fmt::Debug for MadeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MadeKey").field("key", &self.key).finish_non_exhaustive()
    }
}

/// A key that was just revoked, or was before.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RevokedKey {
    /// What it was.
    pub key: KeyView,
    /// The version of the auth state from which on it counts no more.
    pub auth_version: u64,
}

/// How far a version of the auth state has come.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Confirmations {
    /// The version that was asked about.
    pub version: u64,
    /// Processes that answer requests.
    pub instances: Confirmed,
    /// Processes that publish the auth state.
    pub trackers: Confirmed,
}

/// Of so many, so many.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Confirmed {
    /// That are alive.
    pub live: u64,
    /// That have the version, or a later one, in force.
    pub in_force: u64,
}

/// Where people log in.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct LoginProviders {
    /// One, or none.
    pub data: Vec<LoginProvider>,
}

/// An OpenID Connect server whose tokens are accepted.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct LoginProvider {
    /// What its issuer can be; the first whose discovery document calls itself so is it.
    pub issuers: Vec<String>,
    /// The public client for people on the command line.
    pub client_id: String,
    /// What a token is asked for.
    pub scopes: Vec<String>,
}
