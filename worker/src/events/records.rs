//! Turns what the playbook prints into records of bounded size in the spool.
//!
//! Output longer than one record may carry goes ahead of its event in `verbose` records; the event
//! itself carries the last piece, so that it counts once. The pieces' line numbers are such that
//! `append_output` gives back the text exactly.

use std::{collections::BTreeMap, io};

use dispatcher_wire::event::{EventData, PLAYBOOK_ON_STATS, RunnerEvent};
use uuid::Uuid;

use super::text::{Text, encoded_len};
use crate::{config::OutputLimits, spool::Spool};

/// The most output one record carries, as JSON; with everything else a record stays well below
/// the wire's limit.
const PIECE_BYTES: usize = 128 * 1024;
/// How much text is looked at in one go.
const STEP_BYTES: usize = 8 * 1024;
/// The most host names one record of counts carries, as JSON.
const STATS_BYTES: usize = 48 * 1024;
/// How much of the end of the output is kept for error details.
pub(super) const TAIL_BYTES: usize = 4 * 1024;
/// The name of output that belongs to no event, as ansible-runner calls it.
const VERBOSE: &str = "verbose";

/// What the events of a run came to.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Summary {
    /// The end of the output.
    pub(crate) tail: String,
    /// Whether output was dropped.
    pub(crate) dropped: bool,
}

/// The members of one of ansible-runner's events that are used.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    pub(crate) event: String,
    pub(crate) uuid: String,
    pub(crate) counter: i64,
    pub(crate) start_line: i64,
    pub(crate) end_line: i64,
    pub(crate) data: EventData,
}

/// Writes records.
#[derive(Debug)]
pub(crate) struct Records<'a> {
    spool: &'a mut Spool,
    text: Text,
    /// Output lines so far.
    line: i64,
    counter: i64,
    /// How many more bytes of records are allowed.
    left: u64,
    limit: u64,
    summary: Summary,
    failure: Option<io::Error>,
}

impl<'a> Records<'a> {
    /// Writes into this spool.
    pub(crate) fn new(spool: &'a mut Spool, limits: &OutputLimits) -> Self {
        Self {
            spool,
            text: Text::default(),
            line: 0,
            counter: 0,
            left: limits.bytes,
            limit: limits.bytes,
            summary: Summary::default(),
            failure: None,
        }
    }

    /// Adds output; full pieces become records at once. Says whether any did.
    pub(crate) fn push(&mut self, mut more: &str, uuid: &str) -> bool {
        let mut emitted = false;
        while !more.is_empty() {
            let (step, rest) = more.split_at(more.floor_char_boundary(STEP_BYTES));
            self.text.push(step);
            more = rest;
            if self.text.encoded() >= PIECE_BYTES {
                self.piece(uuid);
                emitted = true;
            }
        }
        emitted
    }

    /// Whether there is output that is no record yet.
    pub(crate) fn has_text(&self) -> bool {
        !self.text.is_empty()
    }

    /// Takes back output that was added and is no record yet.
    pub(crate) fn discard(&mut self) {
        self.text.take();
    }

    /// Makes records of all output that was added and belongs to no event.
    pub(crate) fn flush_plain(&mut self, uuid: &str) {
        while !self.text.is_empty() {
            self.piece(uuid);
        }
    }

    /// Makes a record of an event; the output that was added last is its own.
    pub(crate) fn finish_event(&mut self, parsed: Parsed, had_pieces: bool) {
        let stdout = self.text.take();
        let start = if had_pieces { self.line } else { parsed.start_line };
        let end = parsed.end_line.max(start);
        self.counter = parsed.counter;
        self.remember(&stdout, end > start);
        let mut event = RunnerEvent {
            event: parsed.event,
            uuid: parsed.uuid,
            counter: parsed.counter,
            stdout: (!stdout.is_empty()).then_some(stdout),
            start_line: start,
            end_line: end,
            event_data: Some(parsed.data),
        };
        self.line = end;
        for earlier in split_stats(&mut event) {
            self.emit(&earlier);
        }
        self.emit(&event);
    }

    /// Lets readers see everything so far.
    pub(crate) fn settle(&mut self) {
        let published = self.spool.publish();
        self.note(published);
    }

    /// Whether writing goes well.
    pub(crate) const fn is_sound(&self) -> bool {
        self.failure.is_none()
    }

    /// Ends writing.
    pub(crate) fn finish(mut self) -> io::Result<Summary> {
        self.settle();
        self.failure.map_or(Ok(self.summary), Err)
    }

    /// A record of whole lines, or of everything where there is no line end.
    fn piece(&mut self, uuid: &str) {
        let (stdout, ended) = self.text.take_lines();
        self.remember(&stdout, ended > 0);
        let start = self.line;
        self.line += ended;
        self.emit(&RunnerEvent {
            event: VERBOSE.to_owned(),
            uuid: uuid.to_owned(),
            counter: self.counter,
            stdout: Some(stdout),
            start_line: start,
            end_line: self.line,
            event_data: None,
        });
    }

    fn emit(&mut self, event: &RunnerEvent) {
        let size = 200 + event.stdout.as_deref().map_or(0, encoded_len) as u64;
        if let Some(left) = self.left.checked_sub(size) {
            self.left = left;
            self.write(event);
            return;
        }
        self.left = 0;
        if !std::mem::replace(&mut self.summary.dropped, true) {
            let marker = self.marker();
            self.write(&marker);
        }
        if event.event == PLAYBOOK_ON_STATS {
            self.write(&RunnerEvent { stdout: None, end_line: event.start_line, ..event.clone() });
        }
    }

    fn marker(&self) -> RunnerEvent {
        let text = format!(
            "[dispatcher: the output is longer than {} bytes; the rest is dropped, the playbook goes on]",
            self.limit
        );
        RunnerEvent {
            event: VERBOSE.to_owned(),
            uuid: Uuid::new_v4().to_string(),
            counter: self.counter,
            stdout: Some(text),
            start_line: self.line,
            end_line: self.line + 1,
            event_data: None,
        }
    }

    fn write(&mut self, event: &RunnerEvent) {
        if self.failure.is_none() {
            let written = self.spool.append(event);
            self.note(written);
            crate::crash::point("worker.event_spooled");
        }
    }

    fn note(&mut self, written: io::Result<()>) {
        if let Err(error) = written {
            self.failure.get_or_insert(error);
        }
    }

    fn remember(&mut self, text: &str, line_ended: bool) {
        let tail = &mut self.summary.tail;
        tail.push_str(
            text.get(text.ceil_char_boundary(text.len().saturating_sub(TAIL_BYTES))..)
                .unwrap_or_default(),
        );
        if line_ended {
            tail.push('\n');
        }
        let excess = tail.len().saturating_sub(TAIL_BYTES);
        tail.drain(..tail.ceil_char_boundary(excess));
    }
}

/// Takes hosts out of counts that are too many for one record, into records that come before it.
fn split_stats(event: &mut RunnerEvent) -> Vec<RunnerEvent> {
    let mut earlier = Vec::new();
    let Some(data) = &mut event.event_data else { return earlier };
    loop {
        let mut part = EventData { playbook: data.playbook.clone(), ..EventData::default() };
        let mut size = 0;
        let hosts = [&data.processed, &data.failures, &data.dark];
        let mut names: Vec<String> =
            hosts.into_iter().flatten().flat_map(BTreeMap::keys).cloned().collect();
        names.sort_unstable();
        names.dedup();
        let fits = names.iter().take_while(|name| {
            size += 3 * (encoded_len(name) + 10);
            size <= STATS_BYTES
        });
        let fits = fits.count().max(1);
        if fits >= names.len() {
            return earlier;
        }
        names.truncate(fits);
        move_hosts(&mut data.processed, &mut part.processed, &names);
        move_hosts(&mut data.failures, &mut part.failures, &names);
        move_hosts(&mut data.dark, &mut part.dark, &names);
        earlier.push(RunnerEvent {
            event: event.event.clone(),
            uuid: event.uuid.clone(),
            counter: event.counter,
            stdout: None,
            start_line: event.start_line,
            end_line: event.start_line,
            event_data: Some(part),
        });
    }
}

type Counts = Option<BTreeMap<String, u64>>;

fn move_hosts(from: &mut Counts, to: &mut Counts, names: &[String]) {
    let Some(from) = from else { return };
    *to = Some(names.iter().filter_map(|name| from.remove_entry(name)).collect());
}
