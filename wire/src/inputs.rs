//! Run inputs: what a dispatch may say about *how* its playbook is executed. For our own workers
//! only.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The most that the inputs of one run may take as JSON, in bytes.
pub const MAX_INPUTS_BYTES: usize = 256 * 1024;

/// What a dispatch says about how its playbook is executed; every member is optional.
#[derive(Clone, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunInputs {
    /// Ansible's extra variables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra_vars: Option<Map<String, Value>>,
    /// An inventory in Ansible's INI or YAML form; without it, the worker's own host as `localhost`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inventory: Option<String>,
    /// Ansible's host pattern (`--limit`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// Only tasks with these tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// No tasks with these tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skip_tags: Vec<String>,
    /// Change nothing, say what would change.
    pub check: bool,
    /// Show what changes in files.
    pub diff: bool,
    /// Ansible's `-v`, 0 to 5 times.
    pub verbosity: u8,
    /// The SHA-256 that the playbook must have, as it is fetched, in hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub playbook_sha256: Option<String>,
    /// A detached Ed25519 signature over the playbook as it is fetched, in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub playbook_signature: Option<String>,
    /// Extra variables that are kept sealed, handed only to the executor, and never shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secrets: Option<BTreeMap<String, Value>>,
}

impl std::fmt::Debug for RunInputs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunInputs")
            .field("limit", &self.limit)
            .field("tags", &self.tags)
            .field("skip_tags", &self.skip_tags)
            .field("check", &self.check)
            .field("secrets", &self.secrets.as_ref().map(BTreeMap::len))
            .finish_non_exhaustive()
    }
}
