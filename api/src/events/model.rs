//! Events: a change of a run or a run host, as consumers get it (contract §6). No IO.
//!
//! The stores write one outbox row per change, in the transaction that makes the change; the
//! payloads are made here, so that both stores write the same.

use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::runs::model::{RunHostRow, RunRow};

/// What happened to a row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EventType {
    /// It appeared.
    Create,
    /// It changed.
    Update,
    /// It went.
    Delete,
}

impl EventType {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// The payload of a run's event, members in the contract's order.
#[must_use]
pub fn run_payload(run: &RunRow) -> Value {
    let mut payload = Map::new();
    let mut put = |key: &str, value: Value| payload.insert(key.to_owned(), value);
    put("id", json!(run.id));
    put("org_id", json!(run.org_id));
    put("recipient", json!(run.recipient));
    put("correlation_id", json!(run.correlation_id));
    put("service", json!(run.service));
    put("url", json!(run.url));
    put("labels", if run.labels.is_object() { run.labels.clone() } else { json!({}) });
    if let Some(name) = &run.name {
        put("name", json!(name));
    }
    if let Some(url) = &run.web_console_url {
        put("web_console_url", json!(url));
    }
    let mut recipient_config = Map::new();
    if let Some(sat_id) = run.sat_id {
        recipient_config.insert("sat_id".to_owned(), json!(sat_id));
    }
    if let Some(sat_org_id) = &run.sat_org_id {
        recipient_config.insert("sat_org_id".to_owned(), json!(sat_org_id));
    }
    put("recipient_config", Value::Object(recipient_config));
    put("status", json!(run.status));
    put("timeout", json!(run.timeout));
    put("created_at", json!(timestamp(run.created_at)));
    put("updated_at", json!(timestamp(run.updated_at)));
    Value::Object(payload)
}

/// The payload of a run host's event, without `stdout`: the publisher adds it from the row, so that
/// output is not stored twice.
#[must_use]
pub fn run_host_payload(host: &RunHostRow) -> Value {
    let mut payload = Map::new();
    let mut put = |key: &str, value: Value| payload.insert(key.to_owned(), value);
    put("id", json!(host.id));
    put("run_id", json!(host.run_id));
    if let Some(inventory_id) = host.inventory_id {
        put("inventory_id", json!(inventory_id));
    }
    put("host", json!(host.host));
    put("status", json!(host.status));
    put("created_at", json!(timestamp(host.created_at)));
    put("updated_at", json!(timestamp(host.updated_at)));
    Value::Object(payload)
}

/// RFC 3339 in UTC, with up to microseconds, no trailing zeros.
#[must_use]
pub fn timestamp(at: OffsetDateTime) -> String {
    // Formatting a UTC time of the years the stores hold cannot fail.
    at.to_offset(time::UtcOffset::UTC).format(&Rfc3339).unwrap_or_default()
}
