//! Whether the lines of an archive are runner events, and which run they belong to (contract §4.4).
//! A reason names the line and the member.
//!
//! NUL, which no database takes, becomes U+FFFD.

use std::collections::{BTreeMap, BTreeSet};

use dispatcher_wire::event::{EXECUTOR_ON_START, EventData, RunnerEvent};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{
    decode::{Invalid, Line, Opened, each_line},
    line::{CORRELATION_ID, DataMembers, EventLine, Object},
};
use crate::config::uploads::Opening;

/// The longest name of a host, in bytes: what an index of the databases takes.
const MAX_HOST: usize = 1024;
/// The most that all counts of an upload may take as JSON, in bytes.
const MAX_COUNTS: usize = 4 << 20;

/// The events of a valid archive, in upload order.
#[derive(Debug)]
pub struct Events {
    /// The events.
    pub events: Vec<RunnerEvent>,
    /// Index of each event's line.
    pub lines: Vec<usize>,
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
    let mut reading = Reading { opening: *opening, ..Reading::new(*opening) };
    let opened = each_line(archive, opening, |line| reading.take(line))?;
    if reading.events.is_empty() {
        return Err(Invalid("it holds no events".to_owned()));
    }
    let correlation_id = reading.correlation_id.ok_or_else(|| {
        let member = "event_data.crc_dispatcher_correlation_id";
        Invalid(format!("no {EXECUTOR_ON_START} with {member}: every upload needs one"))
    })?;
    Ok(Events { events: reading.events, lines: reading.lines, opened, correlation_id })
}

struct Reading {
    opening: Opening,
    events: Vec<RunnerEvent>,
    lines: Vec<usize>,
    hosts: BTreeSet<String>,
    counts_left: usize,
    correlation_id: Option<Uuid>,
}

impl Reading {
    const fn new(opening: Opening) -> Self {
        Self {
            opening,
            events: Vec::new(),
            lines: Vec::new(),
            hosts: BTreeSet::new(),
            counts_left: MAX_COUNTS,
            correlation_id: None,
        }
    }

    fn take(&mut self, line: Line<'_>) -> Result<(), Invalid> {
        self.read(line.bytes)
            .map_err(|reason| Invalid(format!("line {}: {reason}", line.index + 1)))?;
        self.lines.push(line.index);
        Ok(())
    }

    fn read(&mut self, bytes: &[u8]) -> Result<(), String> {
        if self.events.len() >= self.opening.max_events {
            return Err(format!("more than {} events", self.opening.max_events));
        }
        let event = self.event(EventLine::read(bytes)?)?;
        self.note_host(&event)?;
        self.note_correlation(&event)?;
        self.events.push(event);
        Ok(())
    }

    fn event(&mut self, line: EventLine<'_>) -> Result<RunnerEvent, String> {
        if !(3..=50).contains(&line.event.chars().count()) {
            return Err("event must have 3 to 50 characters".to_owned());
        }
        Ok(RunnerEvent {
            event: clean(line.event),
            uuid: clean(line.uuid),
            counter: line.counter,
            stdout: line.stdout.map(clean),
            start_line: at_least_0(line.start_line, "start_line")?,
            end_line: at_least_0(line.end_line, "end_line")?,
            event_data: line.event_data.map(|Object(data)| self.data(data)).transpose()?,
        })
    }

    fn data(&mut self, members: DataMembers<'_>) -> Result<EventData, String> {
        if members.playbook.as_ref().is_some_and(String::is_empty) {
            return Err("event_data.playbook must not be empty".to_owned());
        }
        Ok(EventData {
            playbook: members.playbook.map(clean),
            playbook_uuid: members.playbook_uuid.map(clean),
            host: members.host.map(clean),
            crc_dispatcher_correlation_id: members.correlation_id.map(clean),
            crc_dispatcher_error_code: members.error_code.map(clean),
            crc_dispatcher_error_details: members.error_details.map(clean),
            ignore_errors: members.ignore_errors.and_then(lenient),
            task: None,
            processed: self.counts(members.processed)?,
            failures: self.counts(members.failures)?,
            dark: self.counts(members.dark)?,
        })
    }

    /// Counts of `playbook_on_stats`. The contract does not know them, so that anything else under
    /// their name is no reason to refuse an upload.
    fn counts(&mut self, raw: Option<&RawValue>) -> Result<Option<BTreeMap<String, u64>>, String> {
        let Some(raw) = raw else { return Ok(None) };
        self.counts_left = self
            .counts_left
            .checked_sub(raw.get().len())
            .ok_or_else(|| format!("the counts take more than {MAX_COUNTS} bytes"))?;
        let counts: Option<BTreeMap<String, u64>> = lenient(raw);
        Ok(counts.map(|counts| counts.into_iter().map(|(host, n)| (clean(host), n)).collect()))
    }

    fn note_host(&mut self, event: &RunnerEvent) -> Result<(), String> {
        let Some(host) = event.host() else { return Ok(()) };
        if host.len() > MAX_HOST {
            return Err(format!("event_data.host is longer than {MAX_HOST} bytes"));
        }
        if !self.hosts.contains(host) {
            self.hosts.insert(host.to_owned());
        }
        if self.hosts.len() > self.opening.max_hosts {
            return Err(format!("more than {} hosts", self.opening.max_hosts));
        }
        Ok(())
    }

    fn note_correlation(&mut self, event: &RunnerEvent) -> Result<(), String> {
        if event.event != EXECUTOR_ON_START || self.correlation_id.is_some() {
            return Ok(());
        }
        let data = event.event_data.as_ref();
        let id = data.and_then(|data| data.crc_dispatcher_correlation_id.as_deref());
        let parse = |id: &str| {
            Uuid::parse_str(id).map_err(|_| format!("event_data.{CORRELATION_ID} is not a UUID"))
        };
        self.correlation_id = id.map(parse).transpose()?;
        Ok(())
    }
}

fn at_least_0(number: i64, member: &str) -> Result<i64, String> {
    if number < 0 { Err(format!("{member} must be at least 0")) } else { Ok(number) }
}

fn lenient<T: DeserializeOwned>(raw: &RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

pub(super) fn clean(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{FFFD}") } else { text }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{
        super::decode::tests::{OPENING, gzip},
        *,
    };

    fn start() -> Value {
        json!({"event": "executor_on_start", "uuid": "x", "counter": -1, "stdout": "",
            "start_line": 0, "end_line": 0,
            "event_data": {"crc_dispatcher_correlation_id": "7a6c0f43-6a5b-4e6c-9f2f-000000000001"}})
    }

    fn archive(events: &[Value]) -> Vec<u8> {
        events.iter().map(|event| format!("{event}\n")).collect::<String>().into_bytes()
    }

    fn reason(events: &[Value]) -> String {
        super::events(&archive(events), &OPENING).err().unwrap().to_string()
    }

    fn with(member: &str, value: Value) -> Value {
        let mut event = start();
        event[member] = value;
        event
    }

    fn with_data(member: &str, value: Value) -> Value {
        let mut event = start();
        event["event_data"][member] = value;
        event
    }

    #[test]
    fn events_are_reduced_to_what_is_kept() {
        let mut stats = with("event", json!("playbook_on_stats"));
        stats["pid"] = json!(7);
        stats["event_data"] = json!({"failures": {"a": 1}, "dark": {}, "processed": "odd",
            "host": "a\0b", "uuid": 5, "ignore_errors": null, "task": "t"});
        let found = super::events(&archive(&[start(), stats]), &OPENING).unwrap();
        assert_eq!(found.correlation_id.to_string(), "7a6c0f43-6a5b-4e6c-9f2f-000000000001");
        assert_eq!(found.lines, [0, 1]);
        let data = found.events[1].event_data.clone().unwrap();
        assert_eq!(data.host.as_deref(), Some("a\u{FFFD}b"));
        assert_eq!(data.failures, Some(BTreeMap::from([("a".to_owned(), 1)])));
        assert_eq!(data.dark, Some(BTreeMap::new()));
        assert_eq!((data.processed, data.ignore_errors, data.task), (None, None, None));
        let null = super::events(&archive(&[with("stdout", Value::Null)]), &OPENING).unwrap();
        assert_eq!(null.events[0].stdout, None);
    }

    #[test]
    fn every_rule_names_line_and_member() {
        let bad = [
            ("event", json!("ab"), "event must have 3 to 50"),
            ("event", json!("x".repeat(51)), "event must have 3 to 50"),
            ("event", json!(null), "event must be a string"),
            ("uuid", json!(1), "uuid must be a string"),
            ("counter", json!(1.0), "counter must be an integer"),
            ("counter", json!("1"), "counter must be an integer"),
            ("counter", json!(null), "counter must be an integer"),
            ("stdout", json!(1), "stdout must be a string or null"),
            ("start_line", json!(-1), "start_line must be at least 0"),
            ("end_line", json!(-1), "end_line must be at least 0"),
            ("event_data", json!(null), "event_data must be a JSON object"),
            ("event_data", json!([1]), "event_data must be a JSON object"),
        ];
        for (member, value, why) in bad {
            let reason = reason(&[start(), with(member, value)]);
            assert!(reason.starts_with(&format!("line 2: {why}")), "{reason}");
        }
        for member in ["event", "uuid", "counter", "start_line", "end_line"] {
            let mut event = start();
            event.as_object_mut().unwrap().shift_remove(member);
            assert_eq!(reason(&[event]), format!("line 1: {member} is missing"));
        }
        for member in [
            "playbook",
            "playbook_uuid",
            "host",
            "crc_dispatcher_error_code",
            "crc_dispatcher_error_details",
            "crc_dispatcher_correlation_id",
        ] {
            for value in [json!(null), json!(1)] {
                let reason = reason(&[with_data(member, value)]);
                assert_eq!(reason, format!("line 1: event_data.{member} must be a string"));
            }
        }
        assert!(reason(&[with_data("playbook", json!(""))]).contains("must not be empty"));
        assert!(reason(&[with_data("host", json!("h".repeat(1025)))]).contains("1024"));
    }

    #[test]
    fn lines_are_objects_and_nothing_else() {
        for line in [
            "[1]",
            "null",
            "{}{}",
            "{",
            "{\"event\": \"\\ud800\"}",
            "text",
            "\"x\"",
            r#"["abc","x",1,"",0,0,{}]"#,
        ] {
            let content = format!("{}\n{line}\n", start());
            let reason = super::events(content.as_bytes(), &OPENING).unwrap_err().to_string();
            assert!(reason.starts_with("line 2: "), "{line}: {reason}");
        }
        let deep = "[".repeat(1 << 19);
        assert!(super::events(deep.as_bytes(), &OPENING).is_err());
        let deep = format!("{{\"x\":{deep}");
        assert!(super::events(deep.as_bytes(), &OPENING).is_err());
        assert!(super::events(b"{\"event\":\"\xff\"}", &OPENING).is_err());
    }

    #[test]
    fn the_first_start_that_says_so_names_the_run() {
        let mut without = start();
        without["event_data"] = json!({});
        let mut second = start();
        second["event_data"][CORRELATION_ID] = json!("7a6c0f43-6a5b-4e6c-9f2f-000000000002");
        let found = super::events(&archive(&[without.clone(), start(), second]), &OPENING).unwrap();
        assert_eq!(found.correlation_id.as_u128() & 0xff, 1);
        assert!(reason(&[without]).contains("every upload needs one"));
        assert!(reason(&[with_data(CORRELATION_ID, json!("no"))]).contains("not a UUID"));
        assert_eq!(super::events(b"\n \n", &OPENING).unwrap_err().0, "it holds no events");
    }

    #[test]
    fn numbers_of_events_hosts_and_counts_are_bounded() {
        let event = |n: usize| with_data("host", json!(format!("h{n}")));
        let many: Vec<Value> = (0..11).map(event).collect();
        assert_eq!(reason(&many), "line 11: more than 10 hosts");
        let tiny =
            "{\"event\":\"abc\",\"uuid\":\"\",\"counter\":1,\"start_line\":0,\"end_line\":0}\n";
        let opening = Opening { max_bytes: 1 << 30, max_ratio: 100_000, ..OPENING };
        let ten_million = gzip(tiny.repeat(100_000).as_bytes()).repeat(100);
        let reason = super::events(&ten_million, &opening).unwrap_err().to_string();
        assert_eq!(reason, "line 1001: more than 1000 events");
        let hosts: BTreeMap<String, u64> = (0..60_000).map(|n| (format!("h{n}"), 1)).collect();
        let stats = with_data("failures", json!(hosts));
        let reason = self::reason(&vec![stats; 7]);
        assert!(reason.contains("counts take more than"), "{reason}");
    }
}
