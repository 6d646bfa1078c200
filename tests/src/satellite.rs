//! A Satellite: writes the events of its hosts as Satellites do.

use serde_json::{Value, json};
use uuid::Uuid;

/// The content type of plain satellite events.
pub const SATELLITE_JSONL: &str = "application/vnd.redhat.playbook-sat.v3+jsonl";

/// An event of a kind (`update`, `finished`, `completed`) with these members.
#[must_use]
pub fn event(correlation_id: Uuid, kind: &str, members: &Value) -> Value {
    let mut event = json!({
        "type": format!("playbook_run_{kind}"), "version": 3, "correlation_id": correlation_id,
    });
    if let (Some(event), Some(members)) = (event.as_object_mut(), members.as_object()) {
        event.extend(members.clone());
    }
    event
}

/// A host has printed something.
#[must_use]
pub fn printed(correlation_id: Uuid, host: Uuid, sequence: i64, console: &str) -> Value {
    let members = json!({ "host": host, "sequence": sequence, "console": console });
    event(correlation_id, "update", &members)
}

/// A host is done.
#[must_use]
pub fn finished(correlation_id: Uuid, host: Uuid, status: &str) -> Value {
    let members =
        json!({ "host": host, "status": status, "connection_code": 0, "execution_code": 0 });
    event(correlation_id, "finished", &members)
}

/// The run is done.
#[must_use]
pub fn completed(correlation_id: Uuid, status: &str) -> Value {
    let members = json!({
        "status": status, "satellite_connection_code": 0, "satellite_infrastructure_code": 0,
    });
    event(correlation_id, "completed", &members)
}

/// The end of a run that a Satellite could not carry out.
#[must_use]
pub fn broken(correlation_id: Uuid, why: &str) -> Value {
    let members = json!({
        "status": "failure", "satellite_connection_code": 1, "satellite_connection_error": why,
    });
    event(correlation_id, "completed", &members)
}
