//! Batches of events: from NDJSON (or from events at hand) to what a store applies. Pure.
//!
//! Everything a worker may send is bounded and checked here, so that a store meets only values it
//! can take. Texts lose their NUL characters, which PostgreSQL cannot hold; hosts with one are
//! refused, since a name must not change.

use std::collections::BTreeSet;

use dispatcher_wire::{
    event::{EXECUTOR_ON_FAILED, RunnerEvent},
    execution::{
        MAX_BATCH_EVENTS, MAX_BATCH_HOSTS, MAX_EVENT_BYTES, MAX_EVENTS_BYTES, MAX_HOST_BYTES,
    },
};
use time::OffsetDateTime;

use super::model::{AppendBatch, OutcomeSoFar};

/// The most that one line may take: an event and what its encoder may add.
pub const MAX_LINE_BYTES: usize = MAX_EVENT_BYTES + 4096;
/// The fewest characters in an event's name.
pub const MIN_EVENT_NAME: usize = 3;
/// The most characters in an event's name.
pub const MAX_EVENT_NAME: usize = 50;
/// The most bytes in an executor's error code.
pub const MAX_ERROR_CODE_BYTES: usize = 100;
/// The most that is kept of an error's details beside the output, in bytes.
pub const MAX_ERROR_DETAILS_BYTES: usize = 64 * 1024;
/// The highest number a record may have; stores keep it in 64 bits with a sign.
pub const MAX_COUNTER: u64 = i64::MAX.unsigned_abs();
/// How much of a decoder's error text is passed on, in characters: it quotes the input.
const MAX_REASON: usize = 200;

/// Why a batch is refused. Nothing of it was applied.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BatchError {
    /// The body is too long.
    #[error("the body has more than {MAX_EVENTS_BYTES} bytes; send fewer events at once")]
    TooLarge,
    /// Its records would be numbered too high.
    #[error("the first counter is {0}; at most {MAX_COUNTER} is allowed, with all records")]
    Counter(u64),
    /// One of its lines is wrong.
    #[error("line {line}: {reason}")]
    Line {
        /// Counted from 1, blank lines included.
        line: usize,
        /// What is wrong with it, and what is allowed.
        reason: String,
    },
}

/// The circumstances of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Number of its first record.
    pub first_counter: u64,
    /// Now.
    pub now: OffsetDateTime,
    /// The new end of the lease.
    pub lease_until: OffsetDateTime,
    /// The most output that is stored for the run, in bytes.
    pub output_max: u64,
    /// The most hosts that are kept for the run.
    pub hosts_max: u64,
}

/// Makes a batch of a body with one event per line. Blank lines are skipped.
///
/// # Errors
/// The first line that is not acceptable, or a limit that is exceeded.
pub fn from_lines(body: &[u8], terms: &Terms) -> Result<AppendBatch, BatchError> {
    if body.len() > MAX_EVENTS_BYTES {
        return Err(BatchError::TooLarge);
    }
    let mut builder = Builder::default();
    for (index, line) in body.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if !line.is_empty() {
            let added = parse(line).and_then(|event| builder.add(&event));
            added.map_err(|reason| BatchError::Line { line: index + 1, reason })?;
        }
    }
    builder.finish(terms)
}

/// Makes a batch of events.
///
/// # Errors
/// The first event that is not acceptable (counted as lines), or a limit that is exceeded.
pub fn from_events(events: &[RunnerEvent], terms: &Terms) -> Result<AppendBatch, BatchError> {
    let mut builder = Builder::default();
    for (index, event) in events.iter().enumerate() {
        let added = builder.add(event);
        added.map_err(|reason| BatchError::Line { line: index + 1, reason })?;
    }
    builder.finish(terms)
}

fn parse(line: &[u8]) -> Result<RunnerEvent, String> {
    if line.len() > MAX_LINE_BYTES {
        return Err(format!("it has {} bytes; at most {MAX_LINE_BYTES} are allowed", line.len()));
    }
    serde_json::from_slice(line).map_err(|error| {
        let reason: String = error.to_string().chars().take(MAX_REASON).collect();
        format!("it is not an event as JSON: {reason}")
    })
}

#[derive(Default)]
struct Builder {
    output: String,
    output_ends: Vec<usize>,
    separator_at: Option<usize>,
    hosts: BTreeSet<String>,
    outcome: OutcomeSoFar,
}

impl Builder {
    fn add(&mut self, event: &RunnerEvent) -> Result<(), String> {
        if self.output_ends.len() == MAX_BATCH_EVENTS {
            return Err(format!("more than {MAX_BATCH_EVENTS} events in one batch"));
        }
        check_frame(event)?;
        self.add_hosts(event)?;
        if event.event == EXECUTOR_ON_FAILED {
            self.add_failure(event)?;
        } else {
            self.add_output(event);
            self.outcome.observe(event);
        }
        self.output_ends.push(self.output.len());
        Ok(())
    }

    fn add_hosts(&mut self, event: &RunnerEvent) -> Result<(), String> {
        for host in event.hosts() {
            if self.hosts.contains(host) {
                continue;
            }
            check_host(host)?;
            if self.hosts.len() == MAX_BATCH_HOSTS {
                return Err(format!("more than {MAX_BATCH_HOSTS} hosts in one batch"));
            }
            self.hosts.insert(host.to_owned());
        }
        Ok(())
    }

    fn add_output(&mut self, event: &RunnerEvent) {
        let start = self.output.len();
        event.append_output(&mut self.output);
        if self.output.get(start..).is_some_and(|text| text.contains('\0')) {
            let printed = self.output.split_off(start);
            self.output.push_str(&without_nul(&printed));
        }
    }

    /// The contract's log rule: the details of the executor's error follow the output, after a line
    /// end where there is any output. Two things differ from uploads: the log ends in a line end,
    /// and where the event prints something itself, that stands for the details, which then repeat
    /// what was printed before.
    fn add_failure(&mut self, event: &RunnerEvent) -> Result<(), String> {
        let mut data = event.event_data.clone().unwrap_or_default();
        if let Some(code) = data.crc_dispatcher_error_code.as_deref() {
            check_error_code(code)?;
        }
        let details = without_nul(data.crc_dispatcher_error_details.as_deref().unwrap_or_default());
        let printed = without_nul(event.stdout.as_deref().unwrap_or_default());
        let shown = if printed.is_empty() { &details } else { &printed };
        if !shown.is_empty() {
            self.separator_at.get_or_insert(self.output.len());
            let line_end = if shown.ends_with('\n') { "" } else { "\n" };
            self.output.extend(["\n", shown, line_end]);
        }
        let kept = details.floor_char_boundary(MAX_ERROR_DETAILS_BYTES);
        data.crc_dispatcher_error_details = details.get(..kept).map(str::to_owned);
        let event = event.event.clone();
        self.outcome.observe(&RunnerEvent {
            event,
            event_data: Some(data),
            ..RunnerEvent::default()
        });
        Ok(())
    }

    fn finish(self, terms: &Terms) -> Result<AppendBatch, BatchError> {
        let records = self.output_ends.len() as u64;
        if terms.first_counter > MAX_COUNTER - records {
            return Err(BatchError::Counter(terms.first_counter));
        }
        Ok(AppendBatch {
            first_counter: terms.first_counter,
            output_ends: self.output_ends,
            output: self.output.into_bytes(),
            separator_at: self.separator_at,
            output_max: terms.output_max,
            hosts: self.hosts.into_iter().collect(),
            hosts_max: terms.hosts_max,
            outcome: self.outcome,
            lease_until: terms.lease_until,
            now: terms.now,
        })
    }
}

fn check_frame(event: &RunnerEvent) -> Result<(), String> {
    let length = event.event.chars().count();
    if !(MIN_EVENT_NAME..=MAX_EVENT_NAME).contains(&length) {
        return Err(format!(
            "event has {length} characters; {MIN_EVENT_NAME} to {MAX_EVENT_NAME} are allowed"
        ));
    }
    for (name, value) in [("start_line", event.start_line), ("end_line", event.end_line)] {
        if value < 0 {
            return Err(format!("{name} is {value}; at least 0 is allowed"));
        }
    }
    Ok(())
}

fn check_host(host: &str) -> Result<(), String> {
    if host.is_empty() || host.len() > MAX_HOST_BYTES {
        let length = host.len();
        return Err(format!("a host's name has {length} bytes; 1 to {MAX_HOST_BYTES} are allowed"));
    }
    if host.contains('\0') {
        return Err("a host's name contains NUL, which is not allowed".to_owned());
    }
    Ok(())
}

fn check_error_code(code: &str) -> Result<(), String> {
    if code.len() > MAX_ERROR_CODE_BYTES || code.contains('\0') {
        return Err(format!(
            "crc_dispatcher_error_code has {} bytes; at most {MAX_ERROR_CODE_BYTES} without NUL are allowed",
            code.len()
        ));
    }
    Ok(())
}

fn without_nul(text: &str) -> String {
    text.replace('\0', "\u{FFFD}")
}

#[cfg(test)]
mod tests {
    use dispatcher_wire::event::{EventData, error_code};

    use super::*;

    const TERMS: Terms = Terms {
        first_counter: 0,
        now: OffsetDateTime::UNIX_EPOCH,
        lease_until: OffsetDateTime::UNIX_EPOCH,
        output_max: u64::MAX,
        hosts_max: u64::MAX,
    };

    fn line(event: &str, stdout: &str, host: Option<&str>) -> String {
        let data = host.map(|host| serde_json::json!({"host": host}));
        serde_json::json!({
            "event": event, "uuid": "u", "counter": 1, "stdout": stdout,
            "start_line": 0, "end_line": 1, "event_data": data, "unknown": {"kept": false},
        })
        .to_string()
    }

    fn refused(body: impl AsRef<[u8]>) -> (usize, String) {
        match from_lines(body.as_ref(), &TERMS) {
            Err(BatchError::Line { line, reason }) => (line, reason),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn records_keep_their_own_output_hosts_and_outcome() {
        let stats = serde_json::json!({
            "event": "playbook_on_stats", "uuid": "u", "counter": 3, "start_line": 2, "end_line": 2,
            "event_data": {"processed": {"b": 1, "a": 2}, "failures": {"b": 1}, "dark": {"c": 1}},
        });
        let body =
            [line("runner_on_ok", "one", Some("b")), "  \r".into(), stats.to_string()].join("\n");
        let batch = from_lines(body.as_bytes(), &Terms { first_counter: 7, ..TERMS }).unwrap();
        assert_eq!(batch.output, b"one\n");
        assert_eq!(batch.output_ends, [4, 4]);
        assert_eq!(batch.end_counter(), 9);
        assert_eq!(batch.hosts, ["a", "b", "c"]);
        let stats = batch.outcome.stats.unwrap();
        assert_eq!(
            stats.into_iter().collect::<Vec<_>>(),
            [("a".to_owned(), false), ("b".to_owned(), true), ("c".to_owned(), true)]
        );
    }

    #[test]
    fn an_empty_body_only_renews() {
        for body in ["", "\n", "\n \n\t\r\n"] {
            let batch = from_lines(body.as_bytes(), &TERMS).unwrap();
            assert!(batch.output_ends.is_empty() && batch.output.is_empty(), "{body:?}");
        }
    }

    #[test]
    fn the_executors_error_ends_the_log() {
        let failed = |details: &str| RunnerEvent {
            event: EXECUTOR_ON_FAILED.to_owned(),
            event_data: Some(EventData {
                crc_dispatcher_error_code: Some(error_code::TIMEOUT.to_owned()),
                crc_dispatcher_error_details: Some(details.to_owned()),
                ..EventData::default()
            }),
            ..RunnerEvent::default()
        };
        let start = RunnerEvent { event: "executor_on_start".to_owned(), ..RunnerEvent::default() };
        let batch = from_events(&[start, failed("too\0late")], &TERMS).unwrap();
        assert_eq!(batch.fresh_output(0, 0), "too\u{FFFD}late\n".as_bytes());
        assert_eq!(batch.fresh_output(0, 1), "\ntoo\u{FFFD}late\n".as_bytes());
        let error = (error_code::TIMEOUT.to_owned(), "too\u{FFFD}late".to_owned());
        assert_eq!(batch.outcome.error, Some(error));
        let long = from_events(&[failed(&"ä".repeat(MAX_ERROR_DETAILS_BYTES))], &TERMS).unwrap();
        assert_eq!(long.outcome.error.unwrap().1.len(), MAX_ERROR_DETAILS_BYTES);
        assert_eq!(long.output.len(), 2 + 2 * MAX_ERROR_DETAILS_BYTES);
        let ended = from_events(&[failed("so it\nended\n")], &TERMS).unwrap();
        assert_eq!(ended.output, b"\nso it\nended\n");
        let printed = RunnerEvent { stdout: Some("in short".to_owned()), ..failed("at length") };
        let printed = from_events(&[printed], &TERMS).unwrap();
        assert_eq!(printed.output, b"\nin short\n");
        assert_eq!(printed.outcome.error.unwrap().1, "at length");
        let silent = from_events(&[failed("")], &TERMS).unwrap();
        assert!(silent.output.is_empty() && silent.separator_at.is_none());
    }

    #[test]
    fn nul_is_replaced_in_output_and_refused_in_names() {
        let batch = from_lines(line("runner_on_ok", "a\0b", None).as_bytes(), &TERMS).unwrap();
        assert_eq!(batch.output, "a\u{FFFD}b\n".as_bytes());
        let (at, reason) = refused(["\n", &line("runner_on_ok", "", Some("a\0b"))].concat());
        assert_eq!(at, 2);
        assert!(reason.contains("NUL"), "{reason}");
    }

    #[test]
    fn what_is_not_an_event_is_refused_with_its_line() {
        let good = line("runner_on_ok", "", None);
        let broken: [&[u8]; 10] = [
            b"{",
            b"[]",
            b"\"text\"",
            b"{}",
            b"\xff\xfe",
            b"{\"event\":\"runner_on_ok\",\"uuid\":\"\xff\",\"counter\":1,\"start_line\":0,\"end_line\":0}",
            br#"{"event":1,"uuid":"u","counter":1,"start_line":0,"end_line":0}"#,
            br#"{"event":"abc","uuid":"u","counter":1.5,"start_line":0,"end_line":0}"#,
            br#"{"event":"abc","uuid":"u","counter":99999999999999999999,"start_line":0,"end_line":0}"#,
            br#"{"event":"abc","uuid":"u","counter":1,"start_line":0,"end_line":0} more"#,
        ];
        for bad in broken {
            let body = [good.as_bytes(), b"\n", bad, b"\n", good.as_bytes()].concat();
            let (at, reason) = refused(&body);
            assert_eq!(at, 2, "{reason}");
            assert!(reason.len() < 1000, "{reason}");
        }
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(from_lines(good.replace("false", &deep).as_bytes(), &TERMS).is_ok(), "dropped");
    }

    #[test]
    fn names_lengths_and_counts_have_limits() {
        refused(line("ab", "", None));
        refused(line(&"x".repeat(MAX_EVENT_NAME + 1), "", None));
        refused(line("runner_on_ok", "", Some("")));
        refused(line("runner_on_ok", "", Some(&"h".repeat(MAX_HOST_BYTES + 1))));
        refused(line("runner_on_ok", "", None).replace(r#""end_line":1"#, r#""end_line":-1"#));
        let longest = "h".repeat(MAX_HOST_BYTES);
        assert!(from_lines(line("abc", "", Some(&longest)).as_bytes(), &TERMS).is_ok());
        let top = Terms { first_counter: MAX_COUNTER, ..TERMS };
        assert!(from_lines(b"", &top).is_ok());
        let error = from_lines(line("abc", "", None).as_bytes(), &top).unwrap_err();
        assert_eq!(error, BatchError::Counter(MAX_COUNTER));
    }

    #[test]
    fn huge_bodies_and_lines_are_refused() {
        let body = vec![b' '; MAX_EVENTS_BYTES + 1];
        assert_eq!(from_lines(&body, &TERMS).unwrap_err(), BatchError::TooLarge);
        let (at, reason) = refused(line("abc", &"x".repeat(MAX_LINE_BYTES), None));
        assert_eq!(at, 1);
        assert!(reason.contains("at most"), "{reason}");
    }

    #[test]
    fn ten_million_tiny_events_come_in_batches_within_the_limits() {
        let tiny = r#"{"event":"abc","uuid":"","counter":0,"start_line":0,"end_line":0}"#;
        let fitting = format!("{tiny}\n").repeat(MAX_BATCH_EVENTS);
        assert!(fitting.len() <= MAX_EVENTS_BYTES);
        let batch = from_lines(fitting.as_bytes(), &TERMS).unwrap();
        assert_eq!(batch.output_ends.len(), MAX_BATCH_EVENTS);
        let (at, reason) = refused(format!("{fitting}{tiny}"));
        assert_eq!(at, MAX_BATCH_EVENTS + 1);
        assert!(reason.contains("10000 events"), "{reason}");
        let event: RunnerEvent = serde_json::from_str(tiny).unwrap();
        let many = vec![event; MAX_BATCH_EVENTS + 1];
        assert!(from_events(&many, &TERMS).is_err());
        let (at, _) = refused("{}\n".repeat(MAX_EVENTS_BYTES / 3));
        assert_eq!(at, 1);
    }

    #[test]
    fn hosts_of_one_batch_are_counted_once_each() {
        let named = |count: usize| {
            let hosts: serde_json::Map<_, _> =
                (0..count).map(|n| (format!("h{n}"), 1.into())).collect();
            serde_json::json!({
                "event": "playbook_on_stats", "uuid": "u", "counter": 3, "start_line": 0,
                "end_line": 0, "event_data": {"processed": hosts},
            })
            .to_string()
        };
        let twice = [named(MAX_BATCH_HOSTS), named(MAX_BATCH_HOSTS)].join("\n");
        let batch = from_lines(twice.as_bytes(), &TERMS).unwrap();
        assert_eq!(batch.hosts.len(), MAX_BATCH_HOSTS);
        let (_, reason) = refused(named(MAX_BATCH_HOSTS + 1));
        assert!(reason.contains("5000 hosts"), "{reason}");
    }
}
