//! Events: a change of a run or a run host, as consumers get it (contract §6). No IO.
//!
//! The stores write one outbox row per change, in the transaction that makes the change; the
//! payloads are made here, so that both stores write the same.

use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use uuid::{Uuid, uuid};

use crate::{
    execution::excerpt::Excerpt,
    runs::model::{RunHostRow, RunRow},
};

/// The run that Debezium's connector writes as its sign of life (contract §6): changes of it are
/// nobody's business.
pub const HEARTBEAT: Uuid = uuid!("98875b33-b37e-4c35-be8b-d74f321bac28");

/// What happened to a row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EventType {
    /// It appeared.
    Create,
    /// It changed.
    Update,
    /// It went.
    Delete,
    /// It is as it was; somebody asked.
    Read,
}

impl EventType {
    /// The name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Read => "read",
        }
    }
}

/// What an event is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Entity {
    /// A run.
    Run,
    /// A host of a run.
    RunHost,
}

impl Entity {
    /// The name in the outbox.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::RunHost => "run_host",
        }
    }

    /// The entity of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Run, Self::RunHost].into_iter().find(|entity| entity.as_str() == name)
    }
}

/// The log of a run host, or the ends of a long one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Stdout {
    /// Bytes in all.
    pub total: u64,
    /// The whole of it, or its beginning.
    pub head: Vec<u8>,
    /// Its end, where the beginning is not the whole.
    pub tail: Vec<u8>,
}

impl Stdout {
    /// The whole of it.
    #[must_use]
    pub fn whole(text: String) -> Self {
        Self { total: text.len() as u64, head: text.into_bytes(), tail: Vec::new() }
    }

    /// At most so many bytes of it: head, marker, tail. The ends that are here must be long enough
    /// for that.
    #[must_use]
    pub fn text(&self, cap: usize) -> String {
        let excerpt = Excerpt::of(self.total, cap);
        if excerpt.head == excerpt.tail {
            return excerpt.text(&self.head, &[]);
        }
        let end = if self.tail.is_empty() { &self.head } else { &self.tail };
        let length = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let head = self.head.get(..length(excerpt.head)).unwrap_or(&self.head);
        let from = end.len().saturating_sub(length(excerpt.total - excerpt.tail));
        excerpt.text(head, end.get(from..).unwrap_or_default())
    }
}

/// A row of the outbox on its way to consumers.
#[derive(Clone, Debug)]
pub struct StoredEvent {
    /// Its place in the outbox.
    pub id: i64,
    /// The run it is about.
    pub run_id: Uuid,
    /// Its number within the run, without gaps.
    pub run_seq: i64,
    /// What changed.
    pub entity: Entity,
    /// Which of them.
    pub entity_id: Uuid,
    /// `create`, `update`, `delete` or `read`.
    pub event_type: String,
    /// The run's organisation.
    pub org_id: String,
    /// The run's service.
    pub service: String,
    /// The state after the change.
    pub status: String,
    /// What consumers get, without `stdout`.
    pub payload: Value,
    /// When it happened.
    pub created_at: OffsetDateTime,
    /// The log of a run host as it is now; nothing for a run.
    pub stdout: Stdout,
}

/// A place in the feed of all events. Nothing ever appears before a place that was given out.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Position {
    /// The transaction that wrote the event, where there are several writers; else 0.
    pub tx: i64,
    /// Its place in the outbox.
    pub id: i64,
}

impl Position {
    /// The position of that text: `<tx>-<id>`, as [`std::fmt::Display`] writes it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| text.parse().ok().filter(|number: &i64| *number >= 0);
        let (tx, id) = text.split_once('-')?;
        Some(Self { tx: number(tx)?, id: number(id)? })
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.tx, self.id)
    }
}

/// What the feed has after a place.
#[derive(Clone, Debug, Default)]
pub struct FeedPage {
    /// Events in the order of their positions.
    pub events: Vec<(Position, StoredEvent)>,
    /// Where to go on: behind the last event of these, or behind all there are.
    pub upto: Position,
    /// Events that came after the place may have been there and are kept no more, or the place is
    /// none of this database's.
    pub lost: bool,
}

/// What the feed of one run has after a number.
#[derive(Clone, Debug, Default)]
pub struct RunFeedPage {
    /// Events in the order of their numbers.
    pub events: Vec<StoredEvent>,
    /// The number of the run's last event, whether or not it is kept; 0 where there was none.
    pub last: i64,
}

/// Events that no broker has yet.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Backlog {
    /// How many, counted up to a limit.
    pub waiting: u64,
    /// How long the oldest of them has waited, in seconds.
    pub oldest_seconds: f64,
}

/// Which runs are told of again.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ReadFilter {
    /// Runs of this organisation; none: of every one.
    pub org_id: Option<String>,
    /// Runs of this service.
    pub service: Option<String>,
    /// Runs in this state, as stored.
    pub status: Option<dispatcher_wire::RunStatus>,
    /// Runs that changed at this time or later.
    pub since: Option<OffsetDateTime>,
}

/// A place in a list of runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    /// The time it is ordered by.
    pub at: OffsetDateTime,
    /// The run.
    pub id: Uuid,
}

/// What was told of again.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ReadPage {
    /// Runs.
    pub runs: u64,
    /// Their hosts.
    pub run_hosts: u64,
    /// Where to go on; nothing at the end.
    pub next: Option<Place>,
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
    put("labels", if are_texts(&run.labels) { run.labels.clone() } else { json!({}) });
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

/// Whether these are labels as consumers know them. Databases of the original may hold others.
fn are_texts(labels: &Value) -> bool {
    labels.as_object().is_some_and(|labels| labels.values().all(Value::is_string))
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

#[cfg(test)]
mod tests {
    use dispatcher_wire::RunStatus;
    use time::macros::datetime;

    use super::*;

    const AT: OffsetDateTime = datetime!(2022-04-22 11:15:45.429294 UTC);

    fn run() -> RunRow {
        RunRow {
            id: Uuid::from_u128(1),
            org_id: "5318290".to_owned(),
            recipient: Uuid::from_u128(2),
            correlation_id: Uuid::from_u128(3),
            url: "https://example.com/p?a=1&b=<2>".to_owned(),
            labels: json!({ "b": "2", "a": "1" }),
            status: RunStatus::Running,
            timeout: 3600,
            service: "remediations".to_owned(),
            name: Some("Fix".to_owned()),
            web_console_url: Some("https://console.example".to_owned()),
            principal: Some("jane".to_owned()),
            sat_id: Some(Uuid::from_u128(4)),
            sat_org_id: Some("5".to_owned()),
            response_full: true,
            created_at: AT,
            updated_at: datetime!(2022-04-22 11:15:45 UTC),
        }
    }

    #[test]
    fn a_run_has_the_contracts_members_in_their_order() {
        let id = |number: u128| Uuid::from_u128(number).to_string();
        let head = format!(
            "{{\"id\":\"{}\",\"org_id\":\"5318290\",\"recipient\":\"{}\",\
             \"correlation_id\":\"{}\",\"service\":\"remediations\",\
             \"url\":\"https://example.com/p?a=1&b=<2>\"",
            id(1),
            id(2),
            id(3)
        );
        let tail = "\"status\":\"running\",\"timeout\":3600,\
                    \"created_at\":\"2022-04-22T11:15:45.429294Z\",\
                    \"updated_at\":\"2022-04-22T11:15:45Z\"}";
        let whole = format!(
            "{head},\"labels\":{{\"b\":\"2\",\"a\":\"1\"}},\"name\":\"Fix\",\
             \"web_console_url\":\"https://console.example\",\
             \"recipient_config\":{{\"sat_id\":\"{}\",\"sat_org_id\":\"5\"}},{tail}",
            id(4)
        );
        assert_eq!(run_payload(&run()).to_string(), whole);
        let bare = format!("{head},\"labels\":{{}},\"recipient_config\":{{}},{tail}");
        for odd in [json!(null), json!([1]), json!("text"), json!({ "a": 1 })] {
            let run = RunRow {
                labels: odd,
                name: None,
                web_console_url: None,
                sat_id: None,
                sat_org_id: None,
                ..run()
            };
            assert_eq!(run_payload(&run).to_string(), bare);
        }
    }

    #[test]
    fn a_host_has_the_contracts_members_in_their_order() {
        let host = |inventory_id| RunHostRow {
            id: Uuid::from_u128(5),
            run_id: Uuid::from_u128(1),
            inventory_id,
            host: "web1".to_owned(),
            status: RunStatus::Canceled,
            log: "kept apart".to_owned(),
            created_at: AT,
            updated_at: AT,
        };
        let at = "2022-04-22T11:15:45.429294Z";
        let expected = |inventory: &str| {
            format!(
                "{{\"id\":\"{}\",\"run_id\":\"{}\",{inventory}\"host\":\"web1\",\
                 \"status\":\"canceled\",\"created_at\":\"{at}\",\"updated_at\":\"{at}\"}}",
                Uuid::from_u128(5),
                Uuid::from_u128(1)
            )
        };
        assert_eq!(run_host_payload(&host(None)).to_string(), expected(""));
        let inventory = format!("\"inventory_id\":\"{}\",", Uuid::from_u128(6));
        let with = run_host_payload(&host(Some(Uuid::from_u128(6)))).to_string();
        assert_eq!(with, expected(&inventory));
    }
}
