//! How a recipient comes to be: a one-time token, the worker's registration with it, and what the
//! worker says of its host.
//!
//! The worker makes its address and its key itself and keeps them before it asks, so that a lost
//! answer costs nothing: the same request again is answered alike.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

/// Header with which a worker says its version.
pub const VERSION_HEADER: &str = "dispatcher-worker";
/// How every registration token begins.
pub const TOKEN_PREFIX: &str = "drt_";
/// How every worker's key begins.
pub const KEY_PREFIX: &str = "dwk_";
/// The longest that a token may be used, in seconds, and how long it is where nothing is said.
pub const MAX_TOKEN_SECONDS: u32 = 3600;
/// The most labels of a recipient.
pub const MAX_LABELS: usize = 64;
/// The most characters of a label's name, and of its value.
pub const MAX_LABEL_LENGTH: usize = 255;
/// The most characters of a recipient's name.
pub const MAX_NAME_LENGTH: usize = 255;
/// The most that the facts of one recipient may take as JSON, in bytes.
pub const MAX_FACTS_BYTES: usize = 64 * 1024;

/// What a worker says of its host: names with texts, numbers, truth values or lists of them.
pub type Facts = Map<String, Value>;

/// The fact with the worker's version.
pub const FACT_VERSION: &str = "worker_version";
/// The fact that says why the worker takes nothing new, where it does not.
pub const FACT_PAUSED: &str = "paused";

/// Asks for a one-time token with which a worker may register.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenRequest {
    /// What people call the recipient; the worker's own name for itself when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The only recipient that may register with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipient: Option<Uuid>,
    /// For how many seconds it may be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<u32>,
}

/// A one-time token. It is shown once: the service keeps a digest.
#[derive(Clone, Deserialize, PartialEq, Serialize)]
pub struct TokenReply {
    /// The token.
    pub token: String,
    /// The organisation that the recipient will belong to.
    pub org_id: String,
    /// The only recipient that may register with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<Uuid>,
    /// Until when it may be used (RFC 3339, UTC).
    pub expires_at: String,
}

impl std::fmt::Debug for TokenReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenReply").field("org_id", &self.org_id).finish_non_exhaustive()
    }
}

/// A worker registers its recipient, or registers it again with a new key.
#[derive(Clone, Deserialize, PartialEq, Serialize)]
pub struct RegisterRequest {
    /// The address it has chosen, a UUID of version 4.
    pub recipient: Uuid,
    /// What it calls itself.
    pub name: String,
    /// The key it has made: `dwk_<recipient without hyphens>_<32 to 128 letters and digits>`.
    pub key: String,
    /// What it says of its host.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub facts: Facts,
}

impl std::fmt::Debug for RegisterRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RegisterRequest")
            .field("recipient", &self.recipient)
            .finish_non_exhaustive()
    }
}

/// The answer to a worker that is registered now.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RegisterReply {
    /// Its address.
    pub recipient: Uuid,
    /// The organisation it belongs to.
    pub org_id: String,
    /// What people call it.
    pub name: String,
}
