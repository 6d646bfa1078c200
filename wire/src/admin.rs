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
