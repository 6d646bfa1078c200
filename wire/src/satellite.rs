//! Events of runs behind a Satellite, reduced to what the service keeps (contract: satellite
//! events).

use serde::{Deserialize, Serialize};

use crate::RunStatus;

/// What an event is about.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum SatelliteEventKind {
    /// A host has printed something.
    #[serde(rename = "playbook_run_update")]
    Update,
    /// A host is done.
    #[serde(rename = "playbook_run_finished")]
    Finished,
    /// The run is done.
    #[serde(rename = "playbook_run_completed")]
    Completed,
}

/// One event of a Satellite.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct SatelliteEvent {
    /// What it is about.
    #[serde(rename = "type")]
    pub kind: SatelliteEventKind,
    /// Version of the format, 3 or more.
    pub version: i64,
    /// The run's correlation id; that of the first event of an upload counts.
    pub correlation_id: String,
    /// Place among the updates of its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<i64>,
    /// The host's inventory id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// What the host has printed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console: Option<String>,
    /// How it ended: success, failure or canceled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<RunStatus>,
    /// Whether the Satellite reached the host; 0: it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_code: Option<i64>,
    /// How Ansible ended on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_code: Option<i64>,
    /// Whether the Satellite was reached; 0: it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub satellite_connection_code: Option<i64>,
    /// Why it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub satellite_connection_error: Option<String>,
    /// Whether the Satellite itself worked; 0: it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub satellite_infrastructure_code: Option<i64>,
    /// Why it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub satellite_infrastructure_error: Option<String>,
}

impl SatelliteEvent {
    /// What it adds to logs, in parts: its console, and the text of each error whose code says that
    /// there is one.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let failed = |code: Option<i64>| code.is_some_and(|code| code != 0);
        let connection = self
            .satellite_connection_error
            .as_deref()
            .filter(|_| failed(self.satellite_connection_code));
        let infrastructure = self
            .satellite_infrastructure_error
            .as_deref()
            .filter(|_| failed(self.satellite_infrastructure_code));
        [self.console.as_deref(), connection, infrastructure].into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_count_where_their_code_says_so() {
        let event: SatelliteEvent = serde_json::from_str(
            r#"{"type":"playbook_run_completed","version":3,"correlation_id":"x","console":"a",
                "satellite_connection_code":1,"satellite_connection_error":"b",
                "satellite_infrastructure_code":0,"satellite_infrastructure_error":"c"}"#,
        )
        .unwrap();
        assert_eq!(event.texts().collect::<String>(), "ab");
        let bare = SatelliteEvent {
            satellite_connection_error: None,
            satellite_infrastructure_code: Some(1),
            ..event
        };
        assert_eq!(bare.texts().collect::<String>(), "ac");
        assert!(!serde_json::to_string(&bare).unwrap().contains("null"));
    }
}
