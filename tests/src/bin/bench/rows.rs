//! The rows that are written, and what a bare loop writes for them.

use std::collections::BTreeMap;

use dispatcher_api::{
    events::model::run_payload,
    execution::model::{AppendBatch, OutcomeSoFar},
    runs::model::{NewRoute, NewRun, RunRow},
};
use dispatcher_wire::RunStatus;
use time::OffsetDateTime;
use uuid::Uuid;

/// Records in a batch of events.
pub(crate) const RECORDS: usize = 100;
/// Output of one record.
const LINE: &str = "ok: [host-17.example.org] => (item=a package of usual length)\n";

/// Now, as precise as the databases keep it.
pub(crate) fn now() -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    now.replace_microsecond(now.microsecond()).unwrap_or(now)
}

/// A run for our workers.
pub(crate) fn new_run(org: &str, recipient: Uuid) -> NewRun {
    let labels = [("playbook", "update"), ("ring", "3")];
    NewRun {
        id: Uuid::new_v4(),
        org_id: org.to_owned(),
        recipient,
        correlation_id: Uuid::new_v4(),
        url: "https://playbooks.example.org/update.yml".to_owned(),
        labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        timeout: 3600,
        service: "remediations".to_owned(),
        name: Some("Update".to_owned()),
        web_console_url: "https://console.example.org".to_owned(),
        principal: Some("somebody".to_owned()),
        sat_id: None,
        sat_org_id: None,
        response_full: true,
        created_at: now(),
        hosts: Vec::new(),
        route: NewRoute::Worker { inputs: None, sealed_secrets: None },
    }
}

/// The payload of its event, as JSON.
pub(crate) fn event(run: &NewRun) -> serde_json::Value {
    run_payload(&RunRow {
        id: run.id,
        org_id: run.org_id.clone(),
        recipient: run.recipient,
        correlation_id: run.correlation_id,
        url: run.url.clone(),
        labels: labels(&run.labels),
        status: RunStatus::Running,
        timeout: run.timeout,
        service: run.service.clone(),
        name: run.name.clone(),
        web_console_url: Some(run.web_console_url.clone()),
        principal: run.principal.clone(),
        sat_id: None,
        sat_org_id: None,
        response_full: true,
        created_at: run.created_at,
        updated_at: run.created_at,
    })
}

/// Labels as they are stored.
pub(crate) fn labels(labels: &BTreeMap<String, String>) -> serde_json::Value {
    labels
        .iter()
        .map(|(key, value)| (key.clone(), value.clone().into()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// A batch of [`RECORDS`] records, starting with this one.
pub(crate) fn batch(first_counter: u64) -> AppendBatch {
    let now = now();
    AppendBatch {
        first_counter,
        output_ends: (1..=RECORDS).map(|record| record * LINE.len()).collect(),
        output: LINE.repeat(RECORDS).into_bytes(),
        separator_at: None,
        output_max: u64::MAX,
        hosts: Vec::new(),
        hosts_max: u64::MAX,
        outcome: OutcomeSoFar::default(),
        lease_until: now + time::Duration::minutes(1),
        now,
    }
}
