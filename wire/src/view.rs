//! What clients read: runs, run hosts, recipients, uploads, pages and errors.
//!
//! Members are optional where sparse field selection may leave them out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{RunStatus, registration::Facts};

/// A page of a list.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Page<T> {
    /// The items.
    pub data: Vec<T>,
    /// Where the other pages are, relative to the host.
    pub links: Links,
    /// How many there are.
    pub meta: Meta,
}

/// Relative addresses of other pages.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Links {
    /// The first page.
    pub first: String,
    /// The last page.
    pub last: String,
    /// The page after this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The page before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
}

/// Counts of a page.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Meta {
    /// Items on this page.
    pub count: i64,
    /// Items that match in all.
    pub total: i64,
}

/// One run in full, as our own single-run route answers.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RunView {
    /// The run.
    pub id: Uuid,
    /// Its organisation.
    pub org_id: String,
    /// Who executes it.
    pub recipient: Uuid,
    /// Ties uploads to it.
    pub correlation_id: Uuid,
    /// Where the playbook came from (never signed).
    pub url: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Seconds from creation until it times out.
    pub timeout: i32,
    /// Its state; an expired run reads `timeout` at once.
    pub status: RunStatus,
    /// The service that dispatched it.
    pub service: String,
    /// What people call it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where people look at it.
    pub web_console_url: String,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// RFC 3339, UTC.
    pub updated_at: String,
    /// Why it has not started, while it waits for its worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_reason: Option<String>,
    /// Why it ended as it did, where its executor said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RunError>,
    /// How many bytes of output are stored.
    pub output_bytes: u64,
}

/// Why an executor ended a run.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RunError {
    /// One of [`crate::event::error_code`].
    pub code: String,
    /// The same in words.
    pub details: String,
}

/// One host's part in a run, as the list route answers.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RunHostView {
    /// Its name in Ansible's inventory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Its state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<RunStatus>,
    /// What was printed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<String>,
}

/// A host or controller that takes runs.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RecipientView {
    /// Its address.
    pub id: Uuid,
    /// The organisation that owns it.
    pub org_id: String,
    /// What people call it.
    pub name: String,
    /// Whether its worker has asked for work lately.
    pub connected: bool,
    /// When it last did (RFC 3339, UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<String>,
    /// Runs waiting or under way.
    pub active_runs: i64,
    /// What its operators say of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Its worker's version, where it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Why its worker takes nothing new, where it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<String>,
}

/// One recipient in full.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RecipientDetailView {
    /// As in the list.
    #[serde(flatten)]
    pub recipient: RecipientView,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// What its worker says of its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<Facts>,
    /// When it said so (RFC 3339, UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts_at: Option<String>,
}

/// An archive of job events that was sent back.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct UploadView {
    /// Its request id, as answered when it was received.
    pub id: String,
    /// The organisation it was received for.
    pub org_id: String,
    /// `pending`, `applied`, `invalid` or `poisoned`.
    pub state: String,
    /// Why it was not applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Bytes received.
    pub size: i64,
    /// RFC 3339, UTC.
    pub created_at: String,
}

/// A stored playbook.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PlaybookView {
    /// Its name within the organisation.
    pub name: String,
    /// Lower-case hex of the content's SHA-256.
    pub sha256: String,
    /// Bytes stored.
    pub size: i64,
    /// The file that is run, for a bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// The address to dispatch it by.
    pub url: String,
    /// RFC 3339, UTC.
    pub updated_at: String,
}

/// Who a caller is.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct IdentityAnswer {
    /// Who that is.
    pub identity: IdentityView,
}

/// A caller, as the service knows it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct IdentityView {
    /// `service`, `user`, `identity` or `worker`.
    pub kind: String,
    /// The service, the subject of the token, the user, or the recipient.
    pub id: String,
    /// What people call it, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The only organisation it may act for; `null`: every one.
    pub org_id: Option<String>,
    /// `reader`, `operator` or `admin`; `worker` for one.
    pub role: String,
    /// How it was recognised: `psk`, `bearer`, `identity` or `worker_key`.
    pub way: String,
    /// The id of its key, or of the key that its token was signed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// When the key or token ends (RFC 3339, UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// When it was recognised before, as far as the database knows yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_auth_at: Option<String>,
}

/// The body of an error on our own routes.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Problem {
    /// What is wrong, with which value, what is allowed.
    pub message: String,
    /// A stable name for programs.
    pub error_code: String,
    /// Quote this when asking for help.
    pub request_id: String,
}
