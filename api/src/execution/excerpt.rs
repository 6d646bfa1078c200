//! The copy of a run's output that goes into each host's log: whole where it is short, else its
//! beginning, a marker and its end. Pure; the stores read only the bytes that are asked for here.

/// Room that is kept for the marker between beginning and end, in bytes.
const MARKER_ROOM: usize = 100;

/// Which bytes of an output are copied: `0..head` and `tail..total`. Whole output has `head` equal
/// to the total, and no tail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Excerpt {
    /// Where the beginning ends.
    pub head: u64,
    /// Where the end begins.
    pub tail: u64,
    /// Bytes in all.
    pub total: u64,
    cap: usize,
}

impl Excerpt {
    /// What is copied of so many bytes, at most `cap` of them.
    #[must_use]
    pub fn of(total: u64, cap: usize) -> Self {
        if total <= cap as u64 {
            return Self { head: total, tail: total, total, cap };
        }
        let half = half(cap) as u64;
        Self { head: half, tail: total - half, total, cap }
    }

    /// The copy as text of at most the cap, from the bytes that were asked for. What is not UTF-8,
    /// and NUL, become U+FFFD; the marker names exactly the bytes that nothing here stands for.
    #[must_use]
    pub fn text(&self, head: &[u8], tail: &[u8]) -> String {
        let mut tail = tail;
        if self.tail == self.head {
            let text = readable(head);
            if text.len() <= self.cap {
                return text;
            }
            // Replaced bytes have made it too long after all; both its ends are in what was read.
            tail = head;
        }
        let (head, head_bytes) = first(head, half(self.cap));
        let (tail, tail_bytes) = last(tail, half(self.cap));
        let left_out = self.total.saturating_sub(head_bytes + tail_bytes);
        let marker = "bytes are left out here, the run's own log has all";
        format!("{head}\n[dispatcher: {left_out} {marker}]\n{tail}")
    }
}

/// Text that every database can hold: what is not UTF-8, and NUL, become U+FFFD.
#[must_use]
pub fn readable(bytes: &[u8]) -> String {
    characters(bytes).map(|(_, character)| character).collect()
}

/// What either end may take of a cap, in bytes.
#[must_use]
pub const fn half(cap: usize) -> usize {
    cap.saturating_sub(MARKER_ROOM) / 2
}

/// The characters of output that should be UTF-8, each with the number of bytes it stands for.
fn characters(bytes: &[u8]) -> impl Iterator<Item = (usize, char)> {
    let shown = |character| if character == '\0' { char::REPLACEMENT_CHARACTER } else { character };
    bytes.utf8_chunks().flat_map(move |chunk| {
        let valid = chunk.valid().chars().map(move |found| (found.len_utf8(), shown(found)));
        let invalid = chunk.invalid().len();
        valid.chain((invalid > 0).then_some((invalid, char::REPLACEMENT_CHARACTER)))
    })
}

/// As many whole characters from the front as `room` takes, and the bytes they stand for.
fn first(bytes: &[u8], room: usize) -> (String, u64) {
    let (mut text, mut taken) = (String::new(), 0);
    for (length, character) in characters(without_cut_end(bytes)) {
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
    // No character is shorter than the bytes it stands for, so more are not needed.
    let from = bytes.len().saturating_sub(room);
    let bytes = without_cut_start(bytes.get(from..).unwrap_or_default());
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

/// Without the beginning of a character whose rest is beyond the end.
fn without_cut_end(bytes: &[u8]) -> &[u8] {
    let chunk = bytes.utf8_chunks().last();
    let cut = chunk.map_or(0, |chunk| chunk.invalid().len());
    let lead = bytes.len().checked_sub(cut).and_then(|at| bytes.get(at));
    let whole = match lead {
        Some(0xC2..=0xDF) => 2,
        Some(0xE0..=0xEF) => 3,
        Some(0xF0..=0xF4) => 4,
        _ => 0,
    };
    let keep = if cut < whole { bytes.len() - cut } else { bytes.len() };
    bytes.get(..keep).unwrap_or(bytes)
}

/// Without the rest of a character whose beginning is before the start.
fn without_cut_start(bytes: &[u8]) -> &[u8] {
    let continues = |byte: &&u8| **byte & 0xC0 == 0x80;
    bytes.get(bytes.iter().take(3).take_while(continues).count()..).unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excerpt(output: &[u8], cap: usize) -> String {
        let excerpt = Excerpt::of(output.len() as u64, cap);
        let head = &output[..excerpt.head as usize];
        let text = excerpt.text(head, &output[excerpt.tail as usize..]);
        assert!(text.len() <= cap.max(MARKER_ROOM), "{} bytes for a cap of {cap}", text.len());
        text
    }

    fn left_out(text: &str) -> u64 {
        let number = text.split_once("[dispatcher: ").unwrap().1;
        number.split_once(" bytes are left out").unwrap().0.parse().unwrap()
    }

    #[test]
    fn short_output_is_copied_whole() {
        assert_eq!(excerpt(b"", 0), "");
        assert_eq!(excerpt("läuft\n".as_bytes(), 100), "läuft\n");
        assert_eq!(excerpt(&[b'x'; 100], 100), "x".repeat(100));
    }

    #[test]
    fn long_output_keeps_its_beginning_and_its_end() {
        let text = excerpt(&[&[b'a'; 5_000][..], &[b'z'; 5_000]].concat(), 200);
        assert!(text.starts_with(&"a".repeat(50)) && text.ends_with(&"z".repeat(50)), "{text}");
        assert!(text.contains("\n[dispatcher: 9900 bytes are left out here"), "{text}");
    }

    #[test]
    fn the_marker_counts_the_bytes_of_cut_and_replaced_characters_too() {
        let euros = excerpt("€".repeat(500).as_bytes(), 201);
        assert_eq!(left_out(&euros), 1500 - 3 * euros.matches('€').count() as u64, "{euros}");
        for output in [vec![0xFF; 900], vec![0; 900], vec![0xFF; 250]] {
            let text = excerpt(&output, 300);
            let kept = text.matches('\u{FFFD}').count() as u64;
            assert_eq!(left_out(&text) + kept, output.len() as u64, "{text}");
            assert!(kept > 60, "{text}");
        }
    }

    #[test]
    fn no_character_is_cut_in_two() {
        for cap in 100..180 {
            let text = excerpt("äöü€🦀".repeat(100).as_bytes(), cap);
            assert!(!text.contains('\u{FFFD}'), "{text}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced_and_still_fit() {
        assert_eq!(excerpt(b"a\0b\xFFc", 100), "a\u{FFFD}b\u{FFFD}c");
        assert_eq!(excerpt(b"\xE2\x82\xAC\xE2\x82\x28", 100), "€\u{FFFD}(");
        excerpt(&[0xFF; 10_000], 1_000);
        excerpt(&[0xFF; 10_000], 0);
        excerpt(&b"\xF0\x9F\x98".repeat(300), 250);
    }
}
