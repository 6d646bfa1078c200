//! From bytes as ansible-runner prints them to records in a spool.

use dispatcher_wire::{event::RunnerEvent, execution::MAX_EVENT_BYTES};

use super::{records::TAIL_BYTES, *};

struct Outcome {
    summary: Summary,
    events: Vec<RunnerEvent>,
}

impl Outcome {
    fn log(&self) -> String {
        let mut log = String::new();
        self.events.iter().for_each(|event| event.append_output(&mut log));
        log
    }

    fn names(&self) -> Vec<&str> {
        self.events.iter().map(|event| event.event.as_str()).collect()
    }
}

fn read_with(chunks: &[&[u8]], limits: &OutputLimits) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool");
    let mut spool = Spool::open(&path, 0).unwrap();
    let summary = read(Source::of(chunks), &mut spool, limits).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.lines().all(|line| line.len() <= MAX_EVENT_BYTES));
    assert!(!text.contains("\\u0000"));
    let events = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    Outcome { summary, events }
}

fn read_all(chunks: &[&[u8]]) -> Outcome {
    read_with(chunks, &OutputLimits::default())
}

fn event_line(name: &str, stdout: &str, start: usize, end: usize) -> String {
    let event = serde_json::json!({
        "uuid": "u-1", "counter": 7, "stdout": stdout, "start_line": start, "end_line": end,
        "runner_ident": "x", "event": name, "pid": 3,
        "event_data": {"host": "web", "task": "t", "res": {"deep": [{"host": "not this"}]}},
    });
    format!("{event}\n")
}

#[test]
fn an_event_keeps_what_is_used_and_nothing_else() {
    let line = event_line("runner_on_ok", "\r\nok: [web]\r\nmore", 4, 7);
    let outcome = read_all(&[line.as_bytes()]);
    let [event] = outcome.events.as_slice() else { panic!("{:?}", outcome.events) };
    assert_eq!(
        (event.event.as_str(), event.uuid.as_str(), event.counter),
        ("runner_on_ok", "u-1", 7)
    );
    assert_eq!(event.host(), Some("web"));
    assert_eq!(event.event_data.as_ref().unwrap().task.as_deref(), Some("t"));
    assert_eq!((event.start_line, event.end_line), (4, 7));
    assert_eq!(outcome.log(), "\nok: [web]\nmore\n");
    assert_eq!(outcome.summary.tail, "\nok: [web]\nmore\n");
}

#[test]
fn long_output_is_split_and_comes_out_exactly_once() {
    let short_lines: String = (0..60_000).map(|n| format!("line {n} \"é\"\n")).collect();
    let one_line = "x".repeat(700_000);
    let escapes = "\u{1}\u{0}\\\t".repeat(60_000);
    for text in
        [short_lines.clone(), one_line.clone(), escapes, format!("{one_line}\n{short_lines}")]
    {
        let text = text.trim_end_matches('\n');
        let lines = text.matches('\n').count() + 1;
        let mut input = event_line("runner_on_ok", "before", 0, 1);
        input += &event_line("runner_on_failed", &text.replace('\n', "\r\n"), 1, 1 + lines);
        input += &event_line("runner_on_ok", "after", 1 + lines, 2 + lines);
        let chunks: Vec<&[u8]> = input.as_bytes().chunks(50_001).collect();
        let outcome = read_all(&chunks);
        let expected = format!("before\n{}\nafter\n", text.replace('\0', "\u{fffd}"));
        assert!(outcome.log() == expected, "the text differs");
        let failed = outcome.names().iter().filter(|name| **name == "runner_on_failed").count();
        assert_eq!(failed, 1);
        assert!(outcome.events.len() > 4);
    }
}

#[test]
fn other_lines_are_output_in_its_place() {
    let event = event_line("runner_on_ok", "ok", 0, 1);
    let input =
        format!("Traceback:\r\n  boom\n{event}{{'a': 1}}\n{{\"a\": 1}}\n{{\"a\": tru\nlast");
    let outcome = read_all(&[input.as_bytes()]);
    assert_eq!(outcome.log(), "Traceback:\n  boom\nok\n{'a': 1}\n{\"a\": 1}\n{\"a\": tru\nlast");
    assert_eq!(outcome.names()[..2], ["verbose", "runner_on_ok"]);
}

#[test]
fn a_torn_event_becomes_output() {
    let whole = event_line("runner_on_ok", &"y".repeat(300_000), 0, 1);
    let torn = whole.get(..250_000).unwrap();
    let input = format!("{torn}\n{}", event_line("runner_on_ok", "next", 1, 2));
    let outcome = read_all(&[input.as_bytes()]);
    let log = outcome.log();
    assert!(log.ends_with("y\nnext\n") && log.matches('y').count() > 249_000, "{}", log.len());

    let no_event = format!("{{\"a\": \"{}\"}}\nnext\n", "z".repeat(20_000));
    let log = read_all(&[no_event.as_bytes()]).log();
    assert!(log.starts_with("{\"a\": \"zzz") && log.ends_with("z … [cut]\nnext\n"), "{log}");

    let short = read_all(&[&whole.as_bytes()[..100]]);
    assert_eq!(short.log(), whole.get(..100).unwrap());
}

#[test]
fn garbage_is_shown_as_such() {
    let input = b"a\0b \xff\xfe \xe2\x82\xac\n{\"event\": \"runner_on_ok\", \"stdout\": \"x\\u0000\\udc80\xff\", \"start_line\": 0, \"end_line\": 1}\n";
    let chunks: Vec<&[u8]> = input.chunks(1).collect();
    let outcome = read_all(&chunks);
    assert_eq!(outcome.log(), "a\u{fffd}b \u{fffd}\u{fffd} €\nx\u{fffd}\u{fffd}\u{fffd}\n");
    assert_eq!(outcome.events.last().unwrap().event, "runner_on_ok");
}

#[test]
fn output_beyond_the_limit_is_dropped_with_one_marker() {
    let mut input: String =
        (0..5_000).map(|n| event_line("runner_on_ok", "some text", n, n + 1)).collect();
    let stats = r#"{"event": "playbook_on_stats", "uuid": "s", "counter": 1, "stdout": "recap", "start_line": 5000, "end_line": 5001, "event_data": {"processed": {"web": 1}, "failures": {"web": 2}, "dark": {}}}"#;
    input += stats;
    let limits = OutputLimits { bytes: 100_000, ..OutputLimits::default() };
    let outcome = read_with(&[input.as_bytes()], &limits);
    assert!(outcome.summary.dropped);
    assert_eq!(outcome.log().matches("[dispatcher: ").count(), 1);
    assert!(outcome.log().len() < 100_000);
    let last = outcome.events.last().unwrap();
    assert_eq!(last.event, "playbook_on_stats");
    let data = last.event_data.as_ref().unwrap();
    assert_eq!(data.failures.as_ref().unwrap()["web"], 2);
    assert_eq!(data.processed.as_ref().unwrap()["web"], 1);
}

#[test]
fn counts_of_many_hosts_are_spread_over_records() {
    let hosts: Vec<String> =
        (0..5_000).map(|n| format!("\"host-{n:05}.example.com\": 1")).collect();
    let bad = hosts.get(4_000..).unwrap().join(",");
    let input = format!(
        r#"{{"event": "playbook_on_stats", "stdout": "recap", "start_line": 0, "end_line": 1, "event_data": {{"processed": {{{}}}, "failures": {{}}, "dark": {{{bad}}}}}}}"#,
        hosts.join(",")
    );
    let outcome = read_all(&[input.as_bytes()]);
    assert!(outcome.events.len() > 3);
    assert_eq!(outcome.log(), "recap\n");
    let (mut processed, mut dark) = (BTreeMap::new(), BTreeMap::new());
    for event in &outcome.events {
        let data = event.event_data.clone().unwrap();
        let here = data.processed.unwrap();
        assert!(data.dark.iter().flatten().all(|(host, _)| here.contains_key(host)));
        processed.extend(here);
        dark.extend(data.dark.unwrap_or_default());
    }
    assert_eq!((processed.len(), dark.len()), (5_000, 1_000));
}

#[test]
fn many_plain_lines_share_records() {
    let input: String = (0..100_000).map(|n| format!("{n}\n")).collect();
    let chunks: Vec<&[u8]> = input.as_bytes().chunks(4096).collect();
    let outcome = read_all(&chunks);
    assert!(outcome.log() == input);
    assert!(outcome.events.len() < 20, "{}", outcome.events.len());
    assert!(outcome.summary.tail.len() <= TAIL_BYTES && outcome.summary.tail.ends_with("99999\n"));
}
