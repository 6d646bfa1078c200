//! Sparse fields of the lists: which there are, which are shown unasked, and how each is written.
//! Members stand in alphabetical order, whatever the order of the request. Pure.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::model::{RunHostRow, RunRow};
use crate::events::model::timestamp;

/// Every field of a run, in alphabetical order.
pub const RUN_FIELDS: [&str; 13] = [
    "correlation_id",
    "created_at",
    "id",
    "labels",
    "name",
    "org_id",
    "recipient",
    "service",
    "status",
    "timeout",
    "updated_at",
    "url",
    "web_console_url",
];
/// The fields of a run that are shown unasked.
pub const RUN_DEFAULTS: [&str; 7] =
    ["id", "labels", "org_id", "recipient", "status", "timeout", "url"];

/// Every field of a run host, in alphabetical order.
pub const RUN_HOST_FIELDS: [&str; 6] = ["host", "inventory_id", "links", "run", "status", "stdout"];
/// The fields of a run host that are shown unasked.
pub const RUN_HOST_DEFAULTS: [&str; 3] = ["host", "run", "status"];

/// The fields that one answer shows, in alphabetical order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fields(Vec<&'static str>);

impl Fields {
    /// These fields, in whatever order they were asked for.
    #[must_use]
    pub fn new(mut names: Vec<&'static str>) -> Self {
        names.sort_unstable();
        names.dedup();
        Self(names)
    }

    /// Whether a field is shown.
    #[must_use]
    pub fn shows(&self, name: &str) -> bool {
        self.0.contains(&name)
    }

    /// A run with the selected fields; `now` decides whether it reads as expired.
    #[must_use]
    pub fn write_run(&self, run: &RunRow, now: OffsetDateTime) -> Value {
        self.write(|name| match name {
            "correlation_id" => Some(json!(run.correlation_id)),
            "created_at" => Some(json!(timestamp(run.created_at))),
            "id" => Some(json!(run.id)),
            "labels" => Some(run.labels.clone()),
            "name" => run.name.as_ref().map(|name| json!(name)),
            "org_id" => Some(json!(run.org_id)),
            "recipient" => Some(json!(run.recipient)),
            "service" => Some(json!(run.service)),
            "status" => Some(json!(run.status_at(now))),
            "timeout" => Some(json!(run.timeout)),
            "updated_at" => Some(json!(timestamp(run.updated_at))),
            "url" => Some(json!(run.url)),
            "web_console_url" => Some(json!(run.web_console_url.as_deref().unwrap_or_default())),
            _ => None,
        })
    }

    /// A run host with the selected fields. Its state is shown as stored (the contract infers
    /// expiry for runs only).
    #[must_use]
    pub fn write_run_host(&self, host: RunHostRow) -> Value {
        let RunHostRow { run_id, inventory_id, host, status, log, .. } = host;
        let mut stdout = Some(log);
        self.write(|name| match name {
            "host" => Some(json!(host)),
            "inventory_id" => inventory_id.map(|id| json!(id)),
            "links" => Some(inventory_id.map_or_else(
                || json!({}),
                |id| json!({ "inventory_host": format!("/api/inventory/v1/hosts/{id}") }),
            )),
            "run" => Some(json!({ "id": run_id })),
            "status" => Some(json!(status)),
            // Moved, not copied: it may be large.
            "stdout" => stdout.take().map(Value::String),
            _ => None,
        })
    }

    fn write(&self, mut value_of: impl FnMut(&str) -> Option<Value>) -> Value {
        let mut object = Map::new();
        for name in &self.0 {
            if let Some(value) = value_of(name) {
                object.insert((*name).to_owned(), value);
            }
        }
        Value::Object(object)
    }
}

#[cfg(test)]
mod tests {
    use dispatcher_wire::RunStatus;
    use time::macros::datetime;
    use uuid::{Uuid, uuid};

    use super::*;

    const ID: Uuid = uuid!("dd018b96-da04-4651-84d1-187fa5c23f6c");

    fn run() -> RunRow {
        RunRow {
            id: ID,
            org_id: "5318290".to_owned(),
            recipient: ID,
            correlation_id: Uuid::nil(),
            url: "https://example.com/?a=1&b=<>".to_owned(),
            labels: json!({"z": "1", "a": "2"}),
            status: RunStatus::Running,
            timeout: 60,
            service: "tasks".to_owned(),
            name: None,
            web_console_url: None,
            principal: None,
            sat_id: None,
            sat_org_id: None,
            response_full: true,
            created_at: datetime!(2026-08-01 10:00:00.120 UTC),
            updated_at: datetime!(2026-08-01 10:00:00 UTC),
        }
    }

    #[test]
    fn runs_show_the_contracts_defaults_in_alphabetical_order() {
        let fields = Fields::new(RUN_DEFAULTS.to_vec());
        let text = fields.write_run(&run(), datetime!(2026-08-01 10:00:59 UTC)).to_string();
        let expected = "{\"id\":\"dd018b96-da04-4651-84d1-187fa5c23f6c\",\
            \"labels\":{\"z\":\"1\",\"a\":\"2\"},\"org_id\":\"5318290\",\
            \"recipient\":\"dd018b96-da04-4651-84d1-187fa5c23f6c\",\"status\":\"running\",\
            \"timeout\":60,\"url\":\"https://example.com/?a=1&b=<>\"}";
        assert_eq!(text, expected);
    }

    #[test]
    fn asked_fields_are_a_union_and_absent_ones_follow_the_contract() {
        let asked = ["web_console_url", "name", "updated_at", "status", "created_at", "status"];
        let fields = Fields::new(asked.to_vec());
        let shown = fields.write_run(&run(), datetime!(2026-08-01 10:01:00.120 UTC));
        let expected = "{\"created_at\":\"2026-08-01T10:00:00.12Z\",\"status\":\"timeout\",\
            \"updated_at\":\"2026-08-01T10:00:00Z\",\"web_console_url\":\"\"}";
        assert_eq!(shown.to_string(), expected);
        let null = RunRow { labels: Value::Null, ..run() };
        let fields = Fields::new(vec!["labels"]);
        assert_eq!(fields.write_run(&null, null.created_at).to_string(), "{\"labels\":null}");
    }

    #[test]
    fn every_field_is_written() {
        let fields = Fields::new(RUN_FIELDS.to_vec());
        let named = RunRow { name: Some("n".to_owned()), ..run() };
        let Value::Object(written) = fields.write_run(&named, named.created_at) else { panic!() };
        assert_eq!(written.keys().collect::<Vec<_>>(), RUN_FIELDS);
    }

    #[test]
    fn hosts_are_written_with_and_without_an_inventory_id() {
        let host = |inventory_id| RunHostRow {
            id: Uuid::nil(),
            run_id: ID,
            inventory_id,
            host: "h".to_owned(),
            status: RunStatus::Success,
            log: String::new(),
            created_at: datetime!(2026-08-01 10:00 UTC),
            updated_at: datetime!(2026-08-01 10:00 UTC),
        };
        let defaults = Fields::new(RUN_HOST_DEFAULTS.to_vec()).write_run_host(host(None));
        let expected =
            format!("{{\"host\":\"h\",\"run\":{{\"id\":\"{ID}\"}},\"status\":\"success\"}}");
        assert_eq!(defaults.to_string(), expected);
        let all = Fields::new(vec!["stdout", "links", "inventory_id"]);
        assert_eq!(all.write_run_host(host(None)).to_string(), "{\"links\":{},\"stdout\":\"\"}");
        let expected = format!(
            "{{\"inventory_id\":\"{ID}\",\
             \"links\":{{\"inventory_host\":\"/api/inventory/v1/hosts/{ID}\"}},\"stdout\":\"\"}}"
        );
        assert_eq!(all.write_run_host(host(Some(ID))).to_string(), expected);
    }
}
