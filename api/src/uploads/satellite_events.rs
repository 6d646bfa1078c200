//! Whether the lines of an archive are events of a Satellite, and which run they belong to (contract
//! §4.4). A reason names the line and the member. As in `validate`, nothing that is not kept is built
//! in memory.

use std::collections::BTreeSet;

use dispatcher_wire::{
    RunStatus,
    satellite::{SatelliteEvent, SatelliteEventKind},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{
    decode::{Invalid, Line, Opened, each_line},
    line::{object, optional, present, required},
    validate::clean,
};
use crate::config::uploads::Opening;

/// The lowest version of the format that is taken.
const LOWEST_VERSION: i64 = 3;

/// An event with what was read from it.
#[derive(Debug)]
pub struct Read {
    /// The event.
    pub event: SatelliteEvent,
    /// Its host, where it has one.
    pub host: Option<Uuid>,
    /// Index of its line.
    pub line: usize,
}

/// The events of a valid archive, in upload order.
#[derive(Debug)]
pub struct Events {
    /// The events; never empty.
    pub events: Vec<Read>,
    /// How large the archive turned out to be.
    pub opened: Opened,
    /// Whose they are.
    pub correlation_id: Uuid,
}

/// Opens an archive and reads its events.
///
/// # Errors
/// When anything about it is not acceptable; says what.
pub fn events(archive: &[u8], opening: &Opening) -> Result<Events, Invalid> {
    let mut reading = Reading {
        opening: *opening,
        events: Vec::new(),
        hosts: BTreeSet::new(),
        correlation: None,
    };
    let opened = each_line(archive, opening, |line| {
        reading.take(line).map_err(|reason| Invalid(format!("line {}: {reason}", line.index + 1)))
    })?;
    let correlation_id =
        reading.correlation.ok_or_else(|| Invalid("it holds no events".to_owned()))?;
    Ok(Events { events: reading.events, opened, correlation_id })
}

/// Whether a line looks like an event of a Satellite rather than one of a runner: it says of what
/// `type` it is, and no name of an `event`.
#[must_use]
pub fn looks_like_one(line: &[u8]) -> bool {
    object::<RawEvent<'_>>(line, "the event")
        .is_ok_and(|raw| raw.kind.is_some() && raw.event.is_none())
}

struct Reading {
    opening: Opening,
    events: Vec<Read>,
    hosts: BTreeSet<Uuid>,
    correlation: Option<Uuid>,
}

impl Reading {
    fn take(&mut self, line: Line<'_>) -> Result<(), String> {
        if self.events.len() >= self.opening.max_events {
            return Err(format!("more than {} events", self.opening.max_events));
        }
        let event = event(&object(line.bytes, "the event")?)?;
        let host = event.host.as_deref().map(Uuid::parse_str).transpose();
        let host = host.map_err(|_| "host is not a UUID".to_owned())?;
        self.hosts.extend(host);
        if self.hosts.len() > self.opening.max_hosts {
            return Err(format!("more than {} hosts", self.opening.max_hosts));
        }
        if self.correlation.is_none() {
            let id = Uuid::parse_str(&event.correlation_id);
            self.correlation = Some(id.map_err(|_| "correlation_id is not a UUID".to_owned())?);
        }
        self.events.push(Read { event, host, line: line.index });
        Ok(())
    }
}

fn event(raw: &RawEvent<'_>) -> Result<SatelliteEvent, String> {
    let kinds = "one of playbook_run_update, playbook_run_finished, playbook_run_completed";
    let kind: SatelliteEventKind = required(raw.kind, "type", kinds)?;
    let version: i64 = required(raw.version, "version", "an integer")?;
    if version < LOWEST_VERSION {
        return Err(format!("version must be at least {LOWEST_VERSION}"));
    }
    let text = |raw, member: &str| -> Result<Option<String>, String> {
        Ok(optional(raw, member, "a string")?.map(clean))
    };
    Ok(SatelliteEvent {
        kind,
        version,
        correlation_id: clean(required(raw.correlation_id, "correlation_id", "a string")?),
        sequence: at_least_0(optional(raw.sequence, "sequence", "an integer")?, "sequence")?,
        host: text(raw.host, "host")?,
        console: text(raw.console, "console")?,
        status: status(raw.status)?,
        connection_code: code(raw.connection_code, "connection_code")?,
        execution_code: code(raw.execution_code, "execution_code")?,
        satellite_connection_code: zero_or_one(
            optional(raw.satellite_connection_code, "satellite_connection_code", "0 or 1")?,
            "satellite_connection_code",
        )?,
        satellite_connection_error: text(
            raw.satellite_connection_error,
            "satellite_connection_error",
        )?,
        satellite_infrastructure_code: zero_or_one(
            code(raw.satellite_infrastructure_code, "satellite_infrastructure_code")?,
            "satellite_infrastructure_code",
        )?,
        satellite_infrastructure_error: text(
            raw.satellite_infrastructure_error,
            "satellite_infrastructure_error",
        )?,
    })
}

/// Success, failure or canceled: what a Satellite may say.
fn status(raw: Option<&RawValue>) -> Result<Option<RunStatus>, String> {
    let allowed = "one of success, failure, canceled";
    match optional(raw, "status", allowed)? {
        Some(RunStatus::Running | RunStatus::Timeout) => Err(format!("status must be {allowed}")),
        status => Ok(status),
    }
}

fn code(raw: Option<&RawValue>, member: &str) -> Result<Option<i64>, String> {
    at_least_0(optional::<Option<i64>>(raw, member, "an integer or null")?.flatten(), member)
}

fn at_least_0(number: Option<i64>, member: &str) -> Result<Option<i64>, String> {
    match number {
        Some(number) if number < 0 => Err(format!("{member} must be at least 0")),
        number => Ok(number),
    }
}

fn zero_or_one(number: Option<i64>, member: &str) -> Result<Option<i64>, String> {
    match number {
        None | Some(0 | 1) => Ok(number),
        Some(_) => Err(format!("{member} must be 0 or 1")),
    }
}

#[derive(Deserialize)]
struct RawEvent<'a> {
    #[serde(borrow, default, rename = "type", deserialize_with = "present")]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    event: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    version: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    correlation_id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    sequence: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    host: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    console: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    status: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    connection_code: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    execution_code: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    satellite_connection_code: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    satellite_connection_error: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    satellite_infrastructure_code: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    satellite_infrastructure_error: Option<&'a RawValue>,
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::{super::decode::tests::OPENING, *};

    pub(in crate::uploads) const RUN: &str = "7a6c0f43-6a5b-4e6c-9f2f-000000000001";
    const HOST: &str = "7a6c0f43-6a5b-4e6c-9f2f-0000000000aa";

    fn whole() -> Value {
        json!({"type": "playbook_run_update", "version": 3, "correlation_id": RUN, "sequence": 1,
            "host": HOST, "console": "a\0b", "status": "success", "connection_code": null,
            "execution_code": 2, "satellite_connection_code": 1,
            "satellite_connection_error": "c", "satellite_infrastructure_code": null,
            "satellite_infrastructure_error": "d", "pid": 7})
    }

    fn archive(events: &[Value]) -> Vec<u8> {
        events.iter().map(|event| format!("{event}\n")).collect::<String>().into_bytes()
    }

    fn reason(events: &[Value]) -> String {
        super::events(&archive(events), &OPENING).err().unwrap().to_string()
    }

    #[test]
    fn events_are_reduced_to_what_is_kept() {
        let found = super::events(&archive(&[whole()]), &OPENING).unwrap();
        assert_eq!(found.correlation_id.to_string(), RUN);
        let Read { event, host, line } = &found.events[0];
        assert_eq!((host.unwrap().to_string().as_str(), *line), (HOST, 0));
        let kept = json!({"type": "playbook_run_update", "version": 3, "correlation_id": RUN,
            "sequence": 1, "host": HOST, "console": "a\u{FFFD}b", "status": "success",
            "execution_code": 2, "satellite_connection_code": 1,
            "satellite_connection_error": "c", "satellite_infrastructure_error": "d"});
        assert_eq!(serde_json::to_value(event).unwrap(), kept);
    }

    #[test]
    fn every_rule_names_line_and_member() {
        let string = "must be a string";
        let bad = [
            ("type", json!("playbook_run_started"), "must be one of playbook_run_update, "),
            ("type", json!(null), "must be one of playbook_run_update, "),
            ("version", json!(2), "must be at least 3"),
            ("version", json!(3.0), "must be an integer"),
            ("version", json!("3"), "must be an integer"),
            ("correlation_id", json!(null), string),
            ("sequence", json!(-1), "must be at least 0"),
            ("sequence", json!(1.0), "must be an integer"),
            ("sequence", json!(null), "must be an integer"),
            ("host", json!(null), string),
            ("host", json!("a.example"), "is not a UUID"),
            ("console", json!(null), string),
            ("status", json!("running"), "must be one of success, failure, canceled"),
            ("status", json!("timeout"), "must be one of success, failure, canceled"),
            ("status", json!(null), "must be one of success, failure, canceled"),
            ("connection_code", json!(-1), "must be at least 0"),
            ("connection_code", json!("0"), "must be an integer or null"),
            ("execution_code", json!(-1), "must be at least 0"),
            ("satellite_connection_code", json!(null), "must be 0 or 1"),
            ("satellite_connection_code", json!(2), "must be 0 or 1"),
            ("satellite_connection_code", json!(-1), "must be 0 or 1"),
            ("satellite_infrastructure_code", json!(2), "must be 0 or 1"),
            ("satellite_connection_error", json!(null), string),
            ("satellite_infrastructure_error", json!(1), string),
        ];
        for (member, value, why) in bad {
            let mut event = whole();
            event[member] = value;
            let reason = reason(&[whole(), event]);
            assert!(reason.starts_with(&format!("line 2: {member} {why}")), "{reason}");
        }
        for member in ["type", "version", "correlation_id"] {
            let mut event = whole();
            event.as_object_mut().unwrap().shift_remove(member);
            assert_eq!(reason(&[event]), format!("line 1: {member} is missing"));
        }
    }

    #[test]
    fn the_first_event_names_the_run() {
        let mut other = whole();
        other["correlation_id"] = json!("not an id");
        let found = super::events(&archive(&[whole(), other.clone()]), &OPENING).unwrap();
        assert_eq!(found.correlation_id.to_string(), RUN);
        assert_eq!(reason(&[other, whole()]), "line 1: correlation_id is not a UUID");
        assert_eq!(super::events(b"\n\n", &OPENING).unwrap_err().0, "it holds no events");
    }

    #[test]
    fn numbers_of_events_and_hosts_are_bounded() {
        let on = |n: u128| {
            let mut event = whole();
            event["host"] = json!(Uuid::from_u128(n));
            event
        };
        let hosts: Vec<Value> = (0..11).map(on).collect();
        assert_eq!(reason(&hosts), "line 11: more than 10 hosts");
        assert_eq!(reason(&vec![on(1); 1001]), "line 1001: more than 1000 events");
    }

    #[test]
    fn kinds_are_told_apart() {
        assert!(looks_like_one(whole().to_string().as_bytes()));
        assert!(looks_like_one(br#"{"type":null}"#));
        for other in ["{}", "[1]", "{", r#"{"event":"x","type":"y"}"#] {
            assert!(!looks_like_one(other.as_bytes()), "{other}");
        }
    }
}
