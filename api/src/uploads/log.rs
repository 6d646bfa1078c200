//! The log of a foreign run, put together from its events (contract §5.1) within a limit: where it
//! is longer, head and tail are kept and a line between them says how much is missing.

use dispatcher_wire::event::RunnerEvent;

use super::state::last_error;

/// The log that these events print, of at most `cap` bytes and the line about what is missing.
#[must_use]
pub fn assemble(events: &[RunnerEvent], cap: usize) -> String {
    let mut order: Vec<&RunnerEvent> = events.iter().collect();
    order.sort_by_key(|event| event.counter);
    let mut log = Bounded::new(cap);
    for event in order {
        log.push(event.stdout.as_deref().unwrap_or_default());
        if event.end_line > event.start_line {
            log.push("\n");
        }
    }
    let details = last_error(events).and_then(|data| data.crc_dispatcher_error_details.as_deref());
    if let Some(details) = details {
        if !log.is_empty() {
            log.push("\n");
        }
        log.push(details);
    }
    log.finish()
}

/// The longest start of a text that fits and ends between two characters.
#[must_use]
pub fn fitting(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or(text)
}

/// A text of at most `cap` bytes and the line about what is missing.
#[must_use]
pub fn shortened(text: &str, cap: usize) -> String {
    if text.len() <= cap {
        return text.to_owned();
    }
    let mut log = Bounded::new(cap);
    log.push(text);
    log.finish()
}

/// A text that grows at its end and forgets its middle.
struct Bounded {
    head: String,
    tail: String,
    each: usize,
    /// Whether the head has ended: from then on everything goes to the tail.
    full: bool,
    forgotten: usize,
}

impl Bounded {
    const fn new(cap: usize) -> Self {
        Self { head: String::new(), tail: String::new(), each: cap / 2, full: false, forgotten: 0 }
    }

    const fn is_empty(&self) -> bool {
        self.head.is_empty() && !self.full
    }

    fn push(&mut self, text: &str) {
        let room = if self.full { 0 } else { self.each.saturating_sub(self.head.len()) };
        let first = fitting(text, room);
        let rest = text.get(first.len()..).unwrap_or_default();
        self.full |= !rest.is_empty();
        self.head.push_str(first);
        self.tail.push_str(rest);
        if self.tail.len() > self.each.saturating_mul(2) {
            self.shorten();
        }
    }

    fn shorten(&mut self) {
        let surplus = self.tail.len().saturating_sub(self.each);
        let cut = self.tail.ceil_char_boundary(surplus);
        self.forgotten += cut;
        self.tail.drain(..cut);
    }

    fn finish(mut self) -> String {
        self.shorten();
        if self.forgotten > 0 {
            let missing = self.forgotten;
            self.head.push_str(&format!("\n[dispatcher: {missing} bytes are left out here]\n"));
        }
        self.head.push_str(&self.tail);
        self.head
    }
}

#[cfg(test)]
mod tests {
    use dispatcher_wire::event::{EXECUTOR_ON_FAILED, EventData};
    use proptest::prelude::*;

    use super::*;

    fn printed(counter: i64, stdout: &str, lines: i64) -> RunnerEvent {
        RunnerEvent {
            event: "verbose".to_owned(),
            counter,
            stdout: Some(stdout.to_owned()),
            end_line: lines,
            ..RunnerEvent::default()
        }
    }

    fn failed(details: &str) -> RunnerEvent {
        RunnerEvent {
            event: EXECUTOR_ON_FAILED.to_owned(),
            counter: -1,
            event_data: Some(EventData {
                crc_dispatcher_error_details: Some(details.to_owned()),
                ..EventData::default()
            }),
            ..RunnerEvent::default()
        }
    }

    #[test]
    fn output_is_ordered_by_counter_and_lines_end() {
        let events = [printed(2, "c", 1), printed(1, "a", 0), printed(1, "b", 1)];
        assert_eq!(assemble(&events, 100), "ab\nc\n");
        let silent = RunnerEvent { stdout: None, ..printed(3, "", 1) };
        assert_eq!(assemble(&[silent], 100), "\n");
    }

    #[test]
    fn error_details_come_last_behind_a_line_end_of_their_own() {
        assert_eq!(assemble(&[failed("why"), printed(1, "a", 1)], 100), "a\n\nwhy");
        assert_eq!(assemble(&[failed("why")], 100), "why");
    }

    #[test]
    fn a_long_log_keeps_head_and_tail() {
        let events: Vec<_> = (0..1000).map(|n| printed(n, &format!("{n:04}"), 1)).collect();
        let log = assemble(&events, 100);
        assert!(log.starts_with("0000\n0001\n"), "{log}");
        assert!(log.contains("\n[dispatcher: 4900 bytes are left out here]\n"), "{log}");
        assert!(log.ends_with("0998\n0999\n"), "{log}");
    }

    proptest! {
        #[test]
        fn the_limit_holds_and_characters_stay_whole(
            texts in proptest::collection::vec("[aäš\u{1F600}]{0,40}", 0..40),
            cap in 0_usize..200,
        ) {
            let whole: String = texts.concat();
            let events: Vec<_> =
                texts.iter().enumerate().map(|(n, text)| printed(n as i64, text, 0)).collect();
            let log = assemble(&events, cap);
            if whole.len() <= cap / 2 {
                prop_assert_eq!(&log, &whole);
            }
            match log.split_once("\n[dispatcher: ") {
                None => prop_assert_eq!(log, whole),
                Some((head, rest)) => {
                    let (missing, tail) = rest.split_once(" bytes are left out here]\n").unwrap();
                    prop_assert!(whole.starts_with(head) && whole.ends_with(tail));
                    prop_assert_eq!(
                        head.len() + missing.parse::<usize>().unwrap() + tail.len(), whole.len()
                    );
                    prop_assert!(head.len() <= cap / 2 && tail.len() <= cap / 2);
                }
            }
        }
    }
}
