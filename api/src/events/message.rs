//! The message of an event: where it goes, what it is called, what it carries (contract §6). Pure.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::model::{Entity, StoredEvent};

/// The topic exchange of runs.
pub const RUNS: &str = "platform.playbook-dispatcher.runs";
/// The topic exchange of run hosts.
pub const RUN_HOSTS: &str = "platform.playbook-dispatcher.run-hosts";

/// The longest word of a routing key, in bytes; a key takes 255 in all.
const WORD_MAX: usize = 80;
/// Below this, an output is left out rather than shortened any more.
const SMALLEST_STDOUT: usize = 256;

/// The value of a header.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Header {
    /// Text.
    Text(String),
    /// A whole number.
    Number(i64),
}

/// A message as a broker takes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message {
    /// Where it goes.
    pub exchange: &'static str,
    /// `<event_type>.<service>.<status>`.
    pub routing_key: String,
    /// The same for the same event, however often it is sent.
    pub id: Uuid,
    /// `<entity>.<event_type>`.
    pub kind: String,
    /// When it happened, in seconds since 1970.
    pub timestamp: u64,
    /// What consumers can decide by without opening it.
    pub headers: Vec<(&'static str, Header)>,
    /// JSON.
    pub body: Vec<u8>,
}

/// The message of an event, sent by the publisher of that epoch. Its body takes at most `max` bytes:
/// what is too much is cut from the middle of `stdout`.
#[must_use]
pub fn compose(event: &StoredEvent, epoch: i64, max: usize) -> Message {
    let StoredEvent { event_type, service, status, .. } = event;
    let routing_key = [event_type, service, status].map(|part| word(part)).join(".");
    Message {
        exchange: match event.entity {
            Entity::Run => RUNS,
            Entity::RunHost => RUN_HOSTS,
        },
        routing_key,
        id: Uuid::new_v5(&event.run_id, &event.run_seq.to_be_bytes()),
        kind: kind(event),
        timestamp: u64::try_from(event.created_at.unix_timestamp()).unwrap_or_default(),
        headers: headers(event, epoch),
        body: body(event, max),
    }
}

/// What an event is called: `<entity>.<event_type>`.
#[must_use]
pub fn kind(event: &StoredEvent) -> String {
    format!("{}.{}", event.entity.as_str(), event.event_type)
}

fn headers(event: &StoredEvent, epoch: i64) -> Vec<(&'static str, Header)> {
    let text = |value: &str| Header::Text(value.to_owned());
    vec![
        ("event_type", text(&event.event_type)),
        ("service", text(&event.service)),
        ("status", text(&event.status)),
        ("org_id", text(&event.org_id)),
        ("key", Header::Text(event.entity_id.to_string())),
        ("run_id", Header::Text(event.run_id.to_string())),
        ("run_seq", Header::Number(event.run_seq)),
        ("epoch", Header::Number(epoch)),
    ]
}

/// A word of a routing key: dots separate words, so that none may be in one.
fn word(text: &str) -> String {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "-_".contains(c) { c } else { '_' };
    text.chars().take(WORD_MAX).map(allowed).collect()
}

/// The envelope of an event, as JSON of at most `max` bytes: what is too much is cut from the middle of
/// `stdout`.
#[must_use]
pub fn body(event: &StoredEvent, max: usize) -> Vec<u8> {
    let mut cap = max;
    loop {
        let body = body_with(event, cap);
        if body.len() <= max || cap == 0 || event.entity == Entity::Run {
            return body;
        }
        // Line ends and the like take more room in JSON than in the log.
        let smaller = cap.saturating_mul(max) / body.len();
        let smaller = smaller.min(cap / 8 * 7);
        cap = if smaller < SMALLEST_STDOUT { 0 } else { smaller };
    }
}

fn body_with(event: &StoredEvent, cap: usize) -> Vec<u8> {
    let payload = match &event.payload {
        Value::Object(members) if event.entity == Entity::RunHost => {
            let stdout = if cap == 0 { String::new() } else { event.stdout.text(cap) };
            Value::Object(with_stdout(members, stdout))
        }
        other => other.clone(),
    };
    json!({ "event_type": event.event_type, "payload": payload }).to_string().into_bytes()
}

/// The members in the contract's order, `stdout` before `status`.
fn with_stdout(members: &Map<String, Value>, stdout: String) -> Map<String, Value> {
    let mut stdout = Some(Value::String(stdout));
    let mut all = Map::new();
    for (name, value) in members {
        if name == "status"
            && let Some(stdout) = stdout.take()
        {
            all.insert("stdout".to_owned(), stdout);
        }
        all.insert(name.clone(), value.clone());
    }
    if let Some(stdout) = stdout {
        all.insert("stdout".to_owned(), stdout);
    }
    all
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;
    use uuid::uuid;

    use super::*;
    use crate::events::model::Stdout;

    const RUN: Uuid = uuid!("dd018b96-da04-4651-84d1-187fa5c23f6c");
    const HOST: Uuid = uuid!("2f4ab5a8-1b2c-4a9f-8f0b-3a7c5e1d9b20");

    fn event(entity: Entity, payload: Value, stdout: &str) -> StoredEvent {
        StoredEvent {
            id: 1,
            run_id: RUN,
            run_seq: 7,
            entity,
            entity_id: if entity == Entity::Run { RUN } else { HOST },
            event_type: "update".to_owned(),
            org_id: "5318290".to_owned(),
            service: "config.manager".to_owned(),
            status: "success".to_owned(),
            payload,
            created_at: datetime!(2026-08-01 10:00:00.5 UTC),
            stdout: Stdout::whole(stdout.to_owned()),
        }
    }

    #[test]
    fn a_runs_message_is_the_contracts() {
        let message = compose(&event(Entity::Run, json!({"id": RUN}), ""), 3, 1 << 20);
        assert_eq!(message.exchange, "platform.playbook-dispatcher.runs");
        assert_eq!(message.routing_key, "update.config_manager.success");
        assert_eq!((message.kind.as_str(), message.timestamp), ("run.update", 1_785_578_400));
        let header = |name| {
            let found = message.headers.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.clone()).unwrap()
        };
        assert_eq!(header("service"), Header::Text("config.manager".to_owned()));
        assert_eq!(header("org_id"), Header::Text("5318290".to_owned()));
        assert_eq!(header("key"), Header::Text(RUN.to_string()));
        assert_eq!((header("run_seq"), header("epoch")), (Header::Number(7), Header::Number(3)));
        let body = format!("{{\"event_type\":\"update\",\"payload\":{{\"id\":\"{RUN}\"}}}}");
        assert_eq!(String::from_utf8(message.body).unwrap(), body);
    }

    #[test]
    fn a_host_has_its_output_where_the_contract_has_it() {
        let payload = json!({"id": HOST, "host": "h", "status": "success", "created_at": "x"});
        let message = compose(&event(Entity::RunHost, payload, "ok\n"), 3, 1 << 20);
        assert_eq!(message.exchange, "platform.playbook-dispatcher.run-hosts");
        let body = format!(
            "{{\"event_type\":\"update\",\"payload\":{{\"id\":\"{HOST}\",\"host\":\"h\",\
             \"stdout\":\"ok\\n\",\"status\":\"success\",\"created_at\":\"x\"}}}}"
        );
        assert_eq!(String::from_utf8(message.body).unwrap(), body);
    }

    #[test]
    fn ids_are_stable_and_differ_within_a_run() {
        let one = event(Entity::Run, json!({}), "");
        let other = StoredEvent { run_seq: 8, ..one.clone() };
        assert_eq!(compose(&one, 1, 999).id, compose(&one, 2, 9).id);
        assert_ne!(compose(&one, 1, 999).id, compose(&other, 1, 999).id);
    }

    #[test]
    fn long_output_is_cut_in_the_middle_until_it_fits() {
        for filling in ["a", "\n", "\u{1b}", "\u{20AC}"] {
            let stdout = format!("first{}last", filling.repeat(40_000));
            let payload = json!({"id": HOST, "status": "success"});
            let message = compose(&event(Entity::RunHost, payload, &stdout), 1, 10_000);
            assert!(message.body.len() <= 10_000, "{}", message.body.len());
            assert!(message.body.len() > 4_000, "{filling:?} {}", message.body.len());
            let body: Value = serde_json::from_slice(&message.body).unwrap();
            let sent = body["payload"]["stdout"].as_str().unwrap();
            assert!(sent.starts_with("first") && sent.ends_with("last"), "{filling:?}");
            assert!(sent.contains("[dispatcher: "), "{filling:?}");
        }
    }

    #[test]
    fn the_ends_of_an_output_make_the_same_text_as_the_whole() {
        let whole: String = ('a'..='z').cycle().take(5_000).collect();
        let ends = Stdout {
            total: 5_000,
            head: whole.as_bytes()[..950].to_vec(),
            tail: whole.as_bytes()[5_000 - 950..].to_vec(),
        };
        let whole = Stdout::whole(whole);
        for cap in [2_000, 1_000, 300] {
            assert_eq!(whole.text(cap), ends.text(cap), "{cap}");
        }
    }

    #[test]
    fn output_that_cannot_fit_is_left_out() {
        let payload = json!({"id": HOST, "status": "success", "host": "h".repeat(300)});
        let message = compose(&event(Entity::RunHost, payload, &"x".repeat(900)), 1, 200);
        let body: Value = serde_json::from_slice(&message.body).unwrap();
        assert_eq!(body["payload"]["stdout"], "");
    }
}
