//! The log of a run host: the run's output as text, capped to its head, a marker line and its tail.
//! Pure; shared by the adapters, which read at most the two ends of a long output.

use uuid::Uuid;

/// How many bytes of each end of an output of this length have to be read for [`host_log`].
#[must_use]
pub fn end_length(total: u64, cap: usize) -> usize {
    usize::try_from(total).unwrap_or(usize::MAX).min(cap)
}

/// Makes the log. `head` and `tail` are the first and the last [`end_length`] bytes of an output
/// of `total` bytes. The result has at most `cap` bytes (unless `cap` is too small for the marker),
/// no NUL, and is cut between characters only.
#[must_use]
pub fn host_log(run_id: Uuid, total: u64, cap: usize, head: &[u8], tail: &[u8]) -> String {
    if total <= cap as u64 {
        let whole: String = characters(head).map(|(_, character)| character).collect();
        if whole.len() <= cap {
            return whole;
        }
    }
    // The marker is measured with the highest number it can have to name.
    let room = cap.saturating_sub(marker(run_id, total).len());
    let (head, head_bytes) = first(head, room / 2);
    let (tail, tail_bytes) = last(tail, room - head.len());
    let left_out = total.saturating_sub(head_bytes + tail_bytes);
    head + &marker(run_id, left_out) + &tail
}

fn marker(run_id: Uuid, left_out: u64) -> String {
    format!(
        "\n[dispatcher: {left_out} bytes are left out here, \
         /api/playbook-dispatcher/v1/runs/{run_id}/log has all]\n"
    )
}

/// The characters of output that should be UTF-8, each with the number of bytes it stands for.
/// What is no character, or NUL (which PostgreSQL's text cannot hold), becomes U+FFFD.
fn characters(bytes: &[u8]) -> impl Iterator<Item = (usize, char)> {
    bytes.utf8_chunks().flat_map(|chunk| {
        let shown =
            |character| if character == '\0' { char::REPLACEMENT_CHARACTER } else { character };
        let valid = chunk.valid().chars().map(move |found| (found.len_utf8(), shown(found)));
        let invalid = chunk.invalid();
        let invalid = (!invalid.is_empty()).then_some((invalid.len(), char::REPLACEMENT_CHARACTER));
        valid.chain(invalid)
    })
}

/// As many whole characters from the front as `room` takes, and the bytes they stand for.
fn first(bytes: &[u8], room: usize) -> (String, u64) {
    let (mut text, mut taken) = (String::new(), 0);
    for (length, character) in characters(bytes) {
        if text.len() + character.len_utf8() > room {
            break;
        }
        text.push(character);
        taken += length as u64;
    }
    (text, taken)
}

/// As many whole characters from the end as `room` takes, and the bytes they stand for.
fn last(bytes: &[u8], room: usize) -> (String, u64) {
    // A character is at least as long as the bytes it stands for, so more cannot be needed.
    let from = bytes.len().saturating_sub(room);
    let mut bytes = bytes.get(from..).unwrap_or_default();
    // The rest of a character that was cut in two, at most three bytes.
    for _ in 0..3 {
        match bytes.split_first() {
            Some((byte, rest)) if from > 0 && byte & 0xC0 == 0x80 => bytes = rest,
            _ => break,
        }
    }
    let mut length: usize = characters(bytes).map(|(_, character)| character.len_utf8()).sum();
    let (mut text, mut taken) = (String::new(), 0);
    for (bytes, character) in characters(bytes) {
        if length <= room {
            text.push(character);
            taken += bytes as u64;
        } else {
            length -= character.len_utf8();
        }
    }
    (text, taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(output: &[u8], cap: usize) -> String {
        let length = end_length(output.len() as u64, cap);
        let (head, tail) = (&output[..length], &output[output.len() - length..]);
        host_log(Uuid::nil(), output.len() as u64, cap, head, tail)
    }

    fn left_out(log: &str) -> u64 {
        let number = log.split_once("[dispatcher: ").unwrap().1;
        number.split_once(" bytes are left out").unwrap().0.parse().unwrap()
    }

    #[test]
    fn short_output_is_whole_and_text() {
        assert_eq!(log(b"", 0), "");
        assert_eq!(log(b"a\nb\n", 4), "a\nb\n");
        assert_eq!(log(b"a\0b\xFFc\xE2\x82", 100), "a\u{FFFD}b\u{FFFD}c\u{FFFD}");
        assert_eq!(log("äöü€".as_bytes(), 9), "äöü€");
    }

    #[test]
    fn long_output_keeps_its_ends_and_says_what_is_missing() {
        let output = format!("{}{}{}", "start\n", "x".repeat(10_000), "\nend");
        let log = log(output.as_bytes(), 1000);
        assert!(log.len() <= 1000 && log.len() > 990, "{}", log.len());
        assert!(log.starts_with("start\nxxx") && log.ends_with("xxx\nend"), "{log}");
        let kept = log.len() - marker(Uuid::nil(), left_out(&log)).len();
        assert_eq!(left_out(&log) + kept as u64, output.len() as u64);
    }

    #[test]
    fn no_cut_breaks_the_cap_or_a_character() {
        let outputs: [&[u8]; 4] =
            [&"€".repeat(500).into_bytes(), &[0; 900], &[0xFF; 900], &b"\xF0\x9F\x98".repeat(300)];
        for output in outputs {
            for cap in 200..260 {
                let log = log(output, cap);
                assert!(log.len() <= cap, "{} bytes, cap {cap}", log.len());
                assert!(!log.contains('\0'));
                let kept = log.chars().filter(|c| ['€', '\u{FFFD}'].contains(c)).count();
                assert!(kept > 5, "{log}");
                assert!(left_out(&log) < output.len() as u64);
            }
        }
        let euros = log("€".repeat(500).as_bytes(), 201);
        assert!(!euros.contains('\u{FFFD}'), "{euros}");
        let invalid = log(&[0xFF; 900], 300);
        let kept = invalid.matches('\u{FFFD}').count() as u64;
        assert_eq!(left_out(&invalid) + kept, 900);
    }
}
