//! Output text on its way into records: line ends normalised, NUL replaced, and its size as JSON
//! known at every moment.

/// A growing piece of output.
#[derive(Debug, Default)]
pub(crate) struct Text {
    text: String,
    encoded: usize,
    after_cr: bool,
}

impl Text {
    /// Adds text: `\r\n` becomes `\n` (also across calls), NUL becomes U+FFFD.
    pub(crate) fn push(&mut self, more: &str) {
        if self.after_cr || more.contains(['\r', '\0']) {
            more.chars().for_each(|char| self.push_char(char));
        } else {
            self.append(more);
        }
    }

    fn push_char(&mut self, char: char) {
        if std::mem::take(&mut self.after_cr) && char != '\n' {
            self.append("\r");
        }
        match char {
            '\r' => self.after_cr = true,
            '\0' => self.append("\u{fffd}"),
            char => self.append(char.encode_utf8(&mut [0; 4])),
        }
    }

    fn append(&mut self, more: &str) {
        self.encoded += encoded_len(more);
        self.text.push_str(more);
    }

    /// How many bytes it takes inside a JSON string.
    pub(crate) const fn encoded(&self) -> usize {
        self.encoded
    }

    /// Whether there is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty() && !self.after_cr
    }

    /// Takes everything.
    pub(crate) fn take(&mut self) -> String {
        if std::mem::take(&mut self.after_cr) {
            self.append("\r");
        }
        self.encoded = 0;
        std::mem::take(&mut self.text)
    }

    /// Takes whole lines where there are any, otherwise everything; with the number of lines ended
    /// and without the last one's line end.
    pub(crate) fn take_lines(&mut self) -> (String, i64) {
        let Some((lines, rest)) = self.text.rsplit_once('\n') else {
            return (self.take(), 0);
        };
        let ended = 1 + count_lines(lines);
        let (lines, rest) = (lines.to_owned(), rest.to_owned());
        self.encoded = encoded_len(&rest);
        self.text = rest;
        (lines, ended)
    }
}

/// How many line ends there are.
pub(crate) fn count_lines(text: &str) -> i64 {
    i64::try_from(text.bytes().filter(|byte| *byte == b'\n').count()).unwrap_or(i64::MAX)
}

/// How many bytes a text takes inside a JSON string.
pub(crate) fn encoded_len(text: &str) -> usize {
    text.bytes().map(encoded_byte).sum()
}

const fn encoded_byte(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_are_normalised_across_pushes_and_nul_is_replaced() {
        let mut text = Text::default();
        for part in ["a\r", "\nb\rc", "\r", "\r\n", "d\0", "e\r"] {
            text.push(part);
        }
        assert_eq!(text.take(), "a\nb\rc\r\nd\u{fffd}e\r");
        assert!(text.is_empty());
    }

    #[test]
    fn the_encoded_size_is_what_json_takes() {
        for sample in ["plain", "\"\\\n\t\u{8}\u{c}\u{1}\u{7f}é\u{1f600}"] {
            let json = serde_json::to_string(sample).unwrap();
            assert_eq!(encoded_len(sample), json.len() - 2);
        }
    }

    #[test]
    fn lines_are_taken_whole_where_there_are_any() {
        let mut text = Text::default();
        text.push("a\nb\nc");
        assert_eq!(text.take_lines(), ("a\nb".to_owned(), 2));
        assert_eq!(text.encoded(), 1);
        assert_eq!(text.take_lines(), ("c".to_owned(), 0));
    }
}
