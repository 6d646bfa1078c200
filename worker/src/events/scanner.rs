//! Reads one line of JSON piece by piece, holding nothing but what its caller keeps.
//!
//! Lenient where programs print garbage: invalid UTF-8, lone surrogates and NUL come out as U+FFFD.
//! Strict where it counts: a line that is not one JSON value is [`Broken`], and the caller gets its
//! beginning back to treat it as text.

use super::source::Source;

/// How much of a line is kept, to give it back where it is no JSON.
pub(crate) const KEPT_BYTES: usize = 8 * 1024;

/// The line is no JSON value, or ends inside one.
#[derive(Debug)]
pub(crate) struct Broken;

/// The beginning of a line.
#[derive(Debug)]
pub(crate) struct Kept {
    /// What was read of it.
    pub(crate) bytes: Vec<u8>,
    /// Whether that is all that was read.
    pub(crate) is_whole: bool,
}

/// One line.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    source: &'a mut Source,
    kept: Vec<u8>,
    read: usize,
}

impl<'a> Scanner<'a> {
    /// From here to the end of the line.
    pub(crate) fn new(source: &'a mut Source) -> Self {
        Self { source, kept: Vec::new(), read: 0 }
    }

    /// What was read of the line, as far as it is kept.
    pub(crate) fn into_kept(self) -> Kept {
        Kept { is_whole: self.read <= KEPT_BYTES, bytes: self.kept }
    }

    fn advance(&mut self, count: usize) {
        let room = KEPT_BYTES.saturating_sub(self.kept.len());
        if room > 0
            && let Some(bytes) = self.source.fill()
        {
            self.kept.extend(bytes.iter().take(count.min(room)));
        }
        self.read += count;
        self.source.consume(count);
    }

    fn peek_raw(&mut self) -> Result<u8, Broken> {
        self.source.peek().filter(|byte| *byte != b'\n').ok_or(Broken)
    }

    fn next_raw(&mut self) -> Result<u8, Broken> {
        let byte = self.peek_raw()?;
        self.advance(1);
        Ok(byte)
    }

    /// The next byte that is no blank, without going past it.
    pub(crate) fn peek(&mut self) -> Result<u8, Broken> {
        loop {
            match self.peek_raw()? {
                b' ' | b'\t' | b'\r' => self.advance(1),
                byte => return Ok(byte),
            }
        }
    }

    /// Goes past this byte, which must come next but for blanks.
    pub(crate) fn expect(&mut self, wanted: u8) -> Result<(), Broken> {
        if self.peek()? != wanted {
            return Err(Broken);
        }
        self.advance(1);
        Ok(())
    }

    /// Goes past the end of the line, before which there may be blanks only.
    pub(crate) fn end(&mut self) -> Result<(), Broken> {
        while let Some(byte) = self.source.peek() {
            match byte {
                b'\n' => {
                    self.source.consume(1);
                    return Ok(());
                }
                b' ' | b'\t' | b'\r' => self.advance(1),
                _ => return Err(Broken),
            }
        }
        Ok(())
    }

    /// Reads an object; each member's value must be read by the given function.
    pub(crate) fn object(
        &mut self,
        member: &mut dyn FnMut(&mut Self, &str) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        self.expect(b'{')?;
        if self.peek()? == b'}' {
            return self.expect(b'}');
        }
        loop {
            let key = self.string_capped(KEY_BYTES)?;
            self.expect(b':')?;
            member(self, &key)?;
            if self.peek()? == b'}' {
                return self.expect(b'}');
            }
            self.expect(b',')?;
        }
    }

    /// Reads a string of which at most so many bytes are kept.
    pub(crate) fn string_capped(&mut self, cap: usize) -> Result<String, Broken> {
        let mut text = String::new();
        self.string(&mut |piece| {
            let room = cap.saturating_sub(text.len());
            text.push_str(piece.get(..piece.floor_char_boundary(room)).unwrap_or_default());
        })?;
        Ok(text)
    }

    /// Reads a string, handing over its text in pieces.
    pub(crate) fn string(&mut self, take: &mut dyn FnMut(&str)) -> Result<(), Broken> {
        self.expect(b'"')?;
        let mut units = Units { high: None, take };
        loop {
            self.plain_run(&mut units);
            match self.next_raw()? {
                b'"' => {
                    units.flush();
                    return Ok(());
                }
                b'\\' => self.escape(&mut units)?,
                byte if byte >= 0x80 => self.wide(byte, &mut units),
                byte => units.char(char::from(byte)),
            }
        }
    }

    /// Hands over the printable ASCII at hand in one go.
    fn plain_run(&mut self, units: &mut Units<'_>) {
        let Some(bytes) = self.source.fill() else { return };
        let plain = |byte: &u8| matches!(byte, 0x20..0x7f) && !matches!(byte, b'"' | b'\\');
        let length = bytes.iter().position(|byte| !plain(byte)).unwrap_or(bytes.len());
        if let Some(run) = bytes.get(..length).and_then(|run| std::str::from_utf8(run).ok())
            && !run.is_empty()
        {
            units.text(run);
        }
        self.advance(length);
    }

    fn escape(&mut self, units: &mut Units<'_>) -> Result<(), Broken> {
        let char = match self.next_raw()? {
            b'u' => {
                units.unit(self.hex4()?);
                return Ok(());
            }
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            byte @ (b'"' | b'\\' | b'/') => char::from(byte),
            _ => return Err(Broken),
        };
        units.char(char);
        Ok(())
    }

    fn hex4(&mut self) -> Result<u32, Broken> {
        let mut value = 0;
        for _ in 0..4 {
            let digit = char::from(self.next_raw()?).to_digit(16).ok_or(Broken)?;
            value = value * 16 + digit;
        }
        Ok(value)
    }

    /// Reads a UTF-8 sequence whose first byte this is; whatever is none becomes U+FFFD.
    fn wide(&mut self, first: u8, units: &mut Units<'_>) {
        let length = match first {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 1,
        };
        let mut bytes = vec![first];
        while bytes.len() < length {
            match self.source.peek() {
                Some(byte) if byte & 0xc0 == 0x80 => bytes.push(byte),
                _ => break,
            }
            self.advance(1);
        }
        units.text(&String::from_utf8_lossy(&bytes));
    }

    /// Reads a whole number.
    pub(crate) fn integer(&mut self) -> Result<i64, Broken> {
        self.scalar()?.parse().map_err(|_| Broken)
    }

    /// Reads true or false.
    pub(crate) fn boolean(&mut self) -> Result<bool, Broken> {
        self.scalar()?.parse().map_err(|_| Broken)
    }

    /// Reads a number, true, false or null as it is written.
    fn scalar(&mut self) -> Result<String, Broken> {
        let mut text = String::new();
        self.peek()?;
        while let Ok(byte) = self.peek_raw()
            && (byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.'))
        {
            self.advance(1);
            if text.len() < SCALAR_BYTES {
                text.push(char::from(byte));
            }
        }
        if text.is_empty() { Err(Broken) } else { Ok(text) }
    }

    /// Goes past a value of any kind, however deep or long.
    pub(crate) fn skip(&mut self) -> Result<(), Broken> {
        let mut depth = 0_u64;
        loop {
            match self.peek()? {
                b'"' => self.string(&mut |_| {})?,
                b'{' | b'[' => {
                    self.advance(1);
                    depth += 1;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1).ok_or(Broken)?;
                    self.advance(1);
                }
                b',' | b':' if depth > 0 => self.advance(1),
                _ => drop(self.scalar()?),
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }
}

/// The most that is kept of a member's name; longer ones are none of ours.
const KEY_BYTES: usize = 256;
/// The most that is kept of a number.
const SCALAR_BYTES: usize = 32;

/// Puts characters together from escapes, which name halves of them.
struct Units<'a> {
    high: Option<u32>,
    take: &'a mut dyn FnMut(&str),
}

impl Units<'_> {
    fn flush(&mut self) {
        if self.high.take().is_some() {
            (self.take)("\u{fffd}");
        }
    }

    fn text(&mut self, text: &str) {
        self.flush();
        (self.take)(text);
    }

    fn char(&mut self, char: char) {
        let char = if char == '\0' { char::REPLACEMENT_CHARACTER } else { char };
        self.text(char.encode_utf8(&mut [0; 4]));
    }

    fn unit(&mut self, unit: u32) {
        match (unit, self.high) {
            (0xdc00..=0xdfff, Some(high)) => {
                self.high = None;
                let code = 0x10000 + ((high - 0xd800) << 10) + (unit - 0xdc00);
                self.char(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            (0xd800..=0xdbff, _) => {
                self.flush();
                self.high = Some(unit);
            }
            _ => self.char(char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(json: &[u8]) -> Result<String, Broken> {
        // One byte per chunk: every boundary is crossed.
        let chunks: Vec<&[u8]> = json.chunks(1).collect();
        Scanner::new(&mut Source::of(&chunks)).string_capped(1000)
    }

    #[test]
    fn strings_are_read_as_json_says() {
        let sample = "a\"\\/\u{8}\u{c}\n\r\t é \u{1f600} \u{7f}";
        assert_eq!(string(&serde_json::to_vec(sample).unwrap()).unwrap(), sample);
        assert_eq!(string(br#""\u00e9\ud83d\ude00""#).unwrap(), "é\u{1f600}");
    }

    #[test]
    fn what_is_no_text_is_replaced() {
        assert_eq!(string(br#""a\ud83db""#).unwrap(), "a\u{fffd}b");
        assert_eq!(string(br#""\ud83d\ud83d\ude00\udcff""#).unwrap(), "\u{fffd}\u{1f600}\u{fffd}");
        assert_eq!(string(br#""\ud83d""#).unwrap(), "\u{fffd}");
        assert_eq!(string(b"\"\xff\xc3(\xe2\x82\"").unwrap(), "\u{fffd}\u{fffd}(\u{fffd}");
        assert_eq!(string(b"\"x\\u0000y\0z\"").unwrap(), "x\u{fffd}y\u{fffd}z");
    }

    #[test]
    fn torn_and_malformed_strings_are_broken() {
        for json in [&b"\"abc"[..], b"\"abc\ndef\"", b"\"\\x\"", b"\"\\u12g4\"", b"abc"] {
            assert!(string(json).is_err(), "{json:?}");
        }
    }

    #[test]
    fn values_are_skipped_however_deep() {
        let deep = format!("{}{}{} 7\n", "[".repeat(100_000), "{\"a\":\"]\"}", "]".repeat(100_000));
        let mut source = Source::of(&[deep.as_bytes()]);
        let mut scanner = Scanner::new(&mut source);
        scanner.skip().unwrap();
        assert_eq!(scanner.integer().unwrap(), 7);
        scanner.end().unwrap();
        assert!(source.peek().is_none());
    }

    #[test]
    fn objects_give_their_members_in_order() {
        let json = br#" {"n": -5, "t":true, "o":{"x":[1.5e3,null]}, "s":"v"} "#;
        let mut source = Source::of(&[json]);
        let mut scanner = Scanner::new(&mut source);
        let mut seen = Vec::new();
        scanner
            .object(&mut |scanner, key| {
                seen.push(match key {
                    "n" => scanner.integer()?.to_string(),
                    "t" => scanner.boolean()?.to_string(),
                    "s" => scanner.string_capped(10)?,
                    _ => scanner.skip().map(|()| "skipped".to_owned())?,
                });
                Ok(())
            })
            .unwrap();
        scanner.end().unwrap();
        assert_eq!(seen, ["-5", "true", "skipped", "v"]);
    }

    #[test]
    fn the_beginning_of_a_broken_line_is_kept() {
        let mut source = Source::of(&[b"{'a': 1}\nnext"]);
        let mut scanner = Scanner::new(&mut source);
        assert!(scanner.object(&mut |scanner, _| scanner.skip()).is_err());
        assert_eq!(scanner.into_kept().bytes, b"{");
        assert_eq!(source.fill().unwrap(), b"'a': 1}\nnext");
    }
}
