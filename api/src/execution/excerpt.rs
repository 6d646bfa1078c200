//! The copy of a run's output that goes into each host's log: whole where it is short, else its
//! beginning, a marker and its end. Pure; the stores read only the bytes that are asked for here.

/// Room that is kept for the marker between beginning and end, in bytes.
const MARKER_ROOM: usize = 80;

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
        let half = (cap.saturating_sub(MARKER_ROOM) / 2) as u64;
        Self { head: half, tail: total - half, total, cap }
    }

    /// The copy as text of at most the cap, from the bytes that were asked for. What is not UTF-8,
    /// and NUL, become U+FFFD.
    #[must_use]
    pub fn text(&self, head: &[u8], tail: &[u8]) -> String {
        let head = readable(without_cut_end(head));
        let whole = self.tail == self.head;
        if whole && head.len() <= self.cap {
            return head;
        }
        let tail = if whole { head.clone() } else { readable(without_cut_start(tail)) };
        let half = self.cap.saturating_sub(MARKER_ROOM) / 2;
        let left_out = self.total.saturating_sub(2 * half as u64);
        let marker = format!("\n[dispatcher: {left_out} bytes are left out here]\n");
        format!("{}{marker}{}", first(&head, half), last(&tail, half))
    }
}

/// Text that every database can hold: what is not UTF-8, and NUL, become U+FFFD.
#[must_use]
pub fn readable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    if text.contains('\0') { text.replace('\0', "\u{FFFD}") } else { text.into_owned() }
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

fn first(text: &str, most: usize) -> &str {
    text.get(..text.floor_char_boundary(most)).unwrap_or(text)
}

fn last(text: &str, most: usize) -> &str {
    text.get(text.ceil_char_boundary(text.len().saturating_sub(most))..).unwrap_or_default()
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

    #[test]
    fn short_output_is_copied_whole() {
        assert_eq!(excerpt(b"", 100), "");
        assert_eq!(excerpt("läuft\n".as_bytes(), 100), "läuft\n");
        assert_eq!(excerpt(&[b'x'; 100], 100), "x".repeat(100));
    }

    #[test]
    fn long_output_keeps_its_beginning_and_its_end() {
        let text = excerpt(&[&[b'a'; 5_000][..], &[b'z'; 5_000]].concat(), 200);
        assert!(text.starts_with(&"a".repeat(60)) && text.ends_with(&"z".repeat(60)), "{text}");
        assert!(text.contains("\n[dispatcher: 9880 bytes are left out here]\n"), "{text}");
    }

    #[test]
    fn no_character_is_cut_in_two() {
        for cap in 100..140 {
            let text = excerpt("äöü€🦀".repeat(100).as_bytes(), cap);
            assert!(!text.contains('\u{FFFD}'), "{text}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced_and_still_fit() {
        assert_eq!(excerpt(b"a\0b\xFFc", 100), "a\u{FFFD}b\u{FFFD}c");
        assert_eq!(excerpt(b"\xE2\x82\xAC\xE2\x82\x28", 100), "€\u{FFFD}(");
        let text = excerpt(&[0; 90], 100);
        assert!(text.starts_with('\u{FFFD}') && text.contains("left out"), "{text}");
        excerpt(&[0xFF; 10_000], 1_000);
        excerpt(&[0xFF; 10_000], 0);
    }
}
