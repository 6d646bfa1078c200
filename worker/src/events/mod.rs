//! Reads ansible-runner's output, line by line and in bounded memory, into the spool.
//!
//! A line that is one of its JSON events becomes a record with the members that are kept; every
//! other line is output of its own. `source` → `scanner` → here → `text`, `records` → spool.

mod records;
mod scanner;
mod source;
mod text;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, io};

use dispatcher_wire::{
    event::{EventData, PLAYBOOK_ON_STATS},
    execution::MAX_HOST_BYTES,
};
use uuid::Uuid;

pub(crate) use self::{records::Summary, source::Source};
use self::{
    records::{Parsed, Records},
    scanner::{Broken, Scanner},
};
use crate::{config::OutputLimits, spool::Spool};

/// The most bytes that are kept of a name in an event.
const NAME_BYTES: usize = 1024;
/// The most bytes that are kept of an event's uuid.
const UUID_BYTES: usize = 64;

/// Reads until the end. Blocking: belongs on a thread of its own.
pub(crate) fn read(
    source: Source,
    spool: &mut Spool,
    limits: &OutputLimits,
) -> io::Result<Summary> {
    let records = Records::new(spool, limits);
    let mut reader = Reader { source, records, hosts: limits.hosts, plain: Uuid::new_v4() };
    while let Some(first) = reader.source.peek() {
        if first == b'{' {
            reader.event_line();
        } else {
            reader.plain_line();
        }
        if reader.source.is_idle() {
            reader.flush_plain();
            reader.records.settle();
        }
        if !reader.records.is_sound() {
            break;
        }
    }
    reader.flush_plain();
    reader.records.finish()
}

struct Reader<'a> {
    source: Source,
    records: Records<'a>,
    hosts: usize,
    /// Identifies output that belongs to no event.
    plain: Uuid,
}

impl Reader<'_> {
    fn flush_plain(&mut self) {
        self.records.flush_plain(&self.plain.to_string());
        self.plain = Uuid::new_v4();
    }

    /// Takes the rest of a line as it is.
    fn plain_line(&mut self) {
        let uuid = self.plain.to_string();
        // The beginning of a character whose rest is in the next chunk.
        let mut carry = Vec::new();
        while let Some(bytes) = self.source.fill() {
            let end = bytes.iter().position(|byte| *byte == b'\n');
            let length = end.map_or(bytes.len(), |at| at + 1);
            carry.extend_from_slice(bytes.get(..length).unwrap_or_default());
            self.source.consume(length);
            let cut = split_character(&mut carry);
            self.records.push(&String::from_utf8_lossy(&carry), &uuid);
            carry = cut;
            if end.is_some() || !self.records.is_sound() {
                return;
            }
        }
        self.records.push(&String::from_utf8_lossy(&carry), &uuid);
    }

    fn event_line(&mut self) {
        self.flush_plain();
        let mut scanner = Scanner::new(&mut self.source);
        let mut event = EventLine::new(&mut self.records, self.hosts);
        let read = event.read(&mut scanner).and_then(|()| scanner.end());
        let kept = scanner.into_kept();
        let EventLine { parsed, had_pieces, .. } = event;
        match (read, kept) {
            (Ok(()), _) if is_event_name(&parsed.event) => {
                self.records.finish_event(parsed, had_pieces);
            }
            (read, kept) => {
                // Long output before the break is an event's that was cut off: it stays as it is.
                if !had_pieces && (kept.is_whole || !self.records.has_text()) {
                    self.records.discard();
                    let cut = if kept.is_whole { "" } else { " … [cut]" };
                    let text = format!("{}{cut}", String::from_utf8_lossy(&kept.bytes));
                    self.records.push(&text, &self.plain.to_string());
                }
                match read {
                    Ok(()) => drop(self.records.push("\n", &self.plain.to_string())),
                    Err(Broken) => self.plain_line(),
                }
            }
        }
    }
}

/// Takes off the beginning of a character that is cut by the end.
fn split_character(bytes: &mut Vec<u8>) -> Vec<u8> {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => bytes.split_off(error.valid_up_to()),
        _ => Vec::new(),
    }
}

/// The service takes names of 3 to 50 characters.
fn is_event_name(name: &str) -> bool {
    (3..=50).contains(&name.chars().count())
}

struct EventLine<'r, 's> {
    records: &'r mut Records<'s>,
    parsed: Parsed,
    had_pieces: bool,
    hosts: usize,
}

impl<'r, 's> EventLine<'r, 's> {
    fn new(records: &'r mut Records<'s>, hosts: usize) -> Self {
        let parsed = Parsed { uuid: Uuid::new_v4().to_string(), ..Parsed::default() };
        Self { records, parsed, had_pieces: false, hosts }
    }

    fn read(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Broken> {
        scanner.object(&mut |scanner, key| self.member(scanner, key))
    }

    fn member(&mut self, scanner: &mut Scanner<'_>, key: &str) -> Result<(), Broken> {
        match key {
            "event" => self.parsed.event = scanner.string_capped(NAME_BYTES)?,
            "uuid" => self.parsed.uuid = scanner.string_capped(UUID_BYTES)?,
            "counter" => self.parsed.counter = scanner.integer()?,
            "start_line" => self.parsed.start_line = scanner.integer()?.max(0),
            "end_line" => self.parsed.end_line = scanner.integer()?.max(0),
            "stdout" if scanner.peek()? == b'"' => {
                let (records, uuid) = (&mut *self.records, &self.parsed.uuid);
                let had_pieces = &mut self.had_pieces;
                scanner.string(&mut |text| *had_pieces |= records.push(text, uuid))?;
            }
            "event_data" if scanner.peek()? == b'{' => {
                let (data, hosts) = (&mut self.parsed.data, self.hosts);
                scanner.object(&mut |scanner, key| data_member(scanner, key, data, hosts))?;
                self.drop_counts_of_others();
            }
            _ => scanner.skip()?,
        }
        Ok(())
    }

    /// Counts belong to Ansible's last event only.
    fn drop_counts_of_others(&mut self) {
        let (event, data) = (&self.parsed.event, &mut self.parsed.data);
        if event != PLAYBOOK_ON_STATS && !event.is_empty() {
            (data.processed, data.failures, data.dark) = (None, None, None);
        }
    }
}

fn data_member(
    scanner: &mut Scanner<'_>,
    key: &str,
    data: &mut EventData,
    hosts: usize,
) -> Result<(), Broken> {
    let next = scanner.peek()?;
    match (key, next) {
        ("playbook", b'"') => data.playbook = Some(scanner.string_capped(NAME_BYTES)?),
        ("playbook_uuid", b'"') => data.playbook_uuid = Some(scanner.string_capped(UUID_BYTES)?),
        ("host", b'"') => data.host = host_name(&scanner.string_capped(NAME_BYTES)?),
        ("task", b'"') => data.task = Some(scanner.string_capped(NAME_BYTES)?),
        ("ignore_errors", b't' | b'f') => data.ignore_errors = Some(scanner.boolean()?),
        ("processed", b'{') => data.processed = Some(counts(scanner, hosts)?),
        ("failures", b'{') => data.failures = Some(counts(scanner, hosts)?),
        ("dark", b'{') => data.dark = Some(counts(scanner, hosts)?),
        _ => scanner.skip()?,
    }
    Ok(())
}

/// A host's name as the service takes it: the run would never be reported for a name that it refuses.
fn host_name(name: &str) -> Option<String> {
    let name = name.get(..name.floor_char_boundary(MAX_HOST_BYTES)).unwrap_or_default();
    let name = name.replace('\0', "?");
    (!name.is_empty()).then_some(name)
}

fn counts(scanner: &mut Scanner<'_>, hosts: usize) -> Result<BTreeMap<String, u64>, Broken> {
    let mut counts = BTreeMap::new();
    scanner.object(&mut |scanner, host| {
        let count = scanner.integer()?.try_into().unwrap_or_default();
        if let Some(host) = host_name(host).filter(|_| counts.len() < hosts) {
            counts.insert(host, count);
        }
        Ok(())
    })?;
    Ok(counts)
}
