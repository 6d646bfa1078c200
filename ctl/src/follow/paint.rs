//! What a run printed, on its way to the person: escape sequences of the run are taken out, in a
//! terminal other control characters become visible, and lines get their colour by Ansible's words.
//! Pure: bytes in, bytes out.

/// The longest line that is held back to see its end.
const MAX_LINE: usize = 64 * 1024;
const ESCAPE: u8 = 0x1b;
const BELL: u8 = 0x07;

/// The colours, named by what they mean.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Ink {
    Plain,
    Heading,
    Good,
    Changed,
    Bad,
    Skipped,
    Warning,
}

impl Ink {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Heading => "\x1b[1m",
            Self::Good => "\x1b[32m",
            Self::Changed => "\x1b[33m",
            Self::Bad => "\x1b[31m",
            Self::Skipped => "\x1b[36m",
            Self::Warning => "\x1b[35m",
        }
    }

    fn paint(self, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            _ if text.is_empty() => String::new(),
            ink => format!("{}{text}\x1b[0m", ink.code()),
        }
    }
}

/// What the lines before say about the next one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Within {
    Nothing,
    /// A result in braces, until the one that closes it.
    Braces(Ink),
    /// A result in indented lines.
    Indented(Ink),
    /// The counts per host.
    Recap,
    /// What changed in a file.
    Diff,
}

/// How output is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Finish {
    /// As it was printed, for files and programs.
    Plain,
    /// For a terminal without colours.
    Visible,
    /// For a terminal with colours.
    Coloured,
}

/// Paints a stream that comes in pieces.
pub(crate) struct Painter {
    finish: Finish,
    held: Vec<u8>,
    within: Within,
    /// Whether the last line that was shown has no end yet.
    open: bool,
}

impl Painter {
    /// A painter at the beginning of a stream.
    pub(crate) fn new(finish: Finish) -> Self {
        Self { finish, held: Vec::new(), within: Within::Nothing, open: false }
    }

    /// Takes a piece; gives what can be shown now: whole lines.
    pub(crate) fn feed(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut shown = Vec::with_capacity(piece.len());
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            self.held.extend_from_slice(part);
            if self.held.ends_with(b"\n") || self.held.len() > MAX_LINE {
                self.release(&mut shown);
            }
        }
        shown
    }

    /// The end of the stream: gives what is left, and in a terminal ends the last line.
    pub(crate) fn end(&mut self) -> Vec<u8> {
        let mut shown = Vec::new();
        if !self.held.is_empty() {
            self.release(&mut shown);
        }
        if self.finish != Finish::Plain && std::mem::take(&mut self.open) {
            shown.push(b'\n');
        }
        shown
    }

    fn release(&mut self, shown: &mut Vec<u8>) {
        let line = std::mem::take(&mut self.held);
        self.open = !line.ends_with(b"\n");
        let stripped = without_escapes(&line);
        if self.finish == Finish::Plain {
            shown.extend_from_slice(&stripped);
            return;
        }
        let text = String::from_utf8_lossy(&stripped);
        let (text, end) = match text.strip_suffix('\n') {
            Some(text) => (text, "\n"),
            None => (text.as_ref(), ""),
        };
        let text = visible(text.strip_suffix('\r').unwrap_or(text));
        let painted = match self.finish {
            Finish::Coloured => self.paint(&text),
            _ => text,
        };
        shown.extend_from_slice(painted.as_bytes());
        shown.extend_from_slice(end.as_bytes());
    }

    fn paint(&mut self, line: &str) -> String {
        if let Some(ink) = ink_of(line) {
            self.within = opened_by(line, ink);
            return ink.paint(line);
        }
        match self.within {
            Within::Braces(ink) => {
                if line == "}" {
                    self.within = Within::Nothing;
                }
                ink.paint(line)
            }
            Within::Indented(ink) if line.starts_with(' ') => ink.paint(line),
            Within::Recap if !line.is_empty() => recap(line),
            Within::Diff if !line.is_empty() => diff_ink(line).paint(line),
            _ if line.starts_with("--- before") || line.starts_with("--- /") => {
                self.within = Within::Diff;
                line.to_owned()
            }
            _ => {
                self.within = Within::Nothing;
                line.to_owned()
            }
        }
    }
}

fn ink_of(line: &str) -> Option<Ink> {
    const WORDS: [(&str, Ink); 19] = [
        ("PLAY [", Ink::Heading),
        ("PLAY RECAP", Ink::Heading),
        ("TASK [", Ink::Heading),
        ("RUNNING HANDLER [", Ink::Heading),
        ("PLAYBOOK: ", Ink::Heading),
        ("NO MORE HOSTS LEFT", Ink::Heading),
        ("ok: [", Ink::Good),
        ("changed: [", Ink::Changed),
        ("fatal: [", Ink::Bad),
        ("failed: [", Ink::Bad),
        ("unreachable: [", Ink::Bad),
        ("ERROR! ", Ink::Bad),
        ("[ERROR]", Ink::Bad),
        ("skipping: ", Ink::Skipped),
        ("included: ", Ink::Skipped),
        ("...ignoring", Ink::Skipped),
        ("[WARNING]", Ink::Warning),
        ("[DEPRECATION WARNING]", Ink::Warning),
        ("FAILED - RETRYING: ", Ink::Warning),
    ];
    WORDS.iter().find(|(word, _)| line.starts_with(word)).map(|(_, ink)| *ink)
}

fn opened_by(line: &str, ink: Ink) -> Within {
    let line = line.trim_end();
    match ink {
        Ink::Heading if line.starts_with("PLAY RECAP") => Within::Recap,
        Ink::Heading => Within::Nothing,
        ink if line.ends_with("=> {") => Within::Braces(ink),
        ink if line.ends_with("=>") => Within::Indented(ink),
        Ink::Bad | Ink::Warning => Within::Indented(ink),
        _ => Within::Nothing,
    }
}

fn diff_ink(line: &str) -> Ink {
    match line.chars().next() {
        Some('+') => Ink::Good,
        Some('-') => Ink::Bad,
        Some('@') => Ink::Skipped,
        _ => Ink::Plain,
    }
}

/// `host : ok=2 changed=1 …`: the host by its worst count, every count that is not zero in its ink.
fn recap(line: &str) -> String {
    let Some((host, counts)) = line.split_once(':') else { return line.to_owned() };
    let mut worst = Ink::Good;
    let mut painted = String::new();
    for word in counts.split_inclusive(' ') {
        let (count, space) = word.split_at(word.trim_end().len());
        let ink = count_ink(count);
        match (ink, worst) {
            (Ink::Bad, _) => worst = Ink::Bad,
            (Ink::Changed, Ink::Good) => worst = Ink::Changed,
            _ => {}
        }
        painted.push_str(&ink.paint(count));
        painted.push_str(space);
    }
    let (name, space) = host.split_at(host.trim_end().len());
    format!("{}{space}:{painted}", worst.paint(name))
}

fn count_ink(count: &str) -> Ink {
    match count.split_once('=') {
        None | Some((_, "0")) => Ink::Plain,
        Some(("ok", _)) => Ink::Good,
        Some(("changed", _)) => Ink::Changed,
        Some(("failed" | "unreachable", _)) => Ink::Bad,
        Some(_) => Ink::Skipped,
    }
}

/// Control characters as `^X`, so that output cannot steer the terminal.
fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => shown.push(c),
            '\0'..='\x1f' => {
                shown.push('^');
                shown.push(char::from(c as u8 ^ 0x40));
            }
            c if crate::text::is_control(c) => shown.push('\u{fffd}'),
            c => shown.push(c),
        }
    }
    shown
}

/// Takes out escape sequences: colours that Ansible set for a terminal it believed to have, and
/// anything else that would steer ours.
fn without_escapes(line: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(line.len());
    let mut rest = line.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        if byte != ESCAPE {
            kept.push(byte);
            continue;
        }
        let Some(kind) = rest.next_if(|next| *next != b'\n') else { continue };
        match kind {
            b'[' => {
                while rest.next_if(|next| (0x20..0x40).contains(next)).is_some() {}
                rest.next_if(|next| (0x40..0x7f).contains(next));
            }
            b']' | b'P' | b'X' | b'^' | b'_' => skip_string(&mut rest),
            0x20..0x30 => {
                while rest.next_if(|next| (0x20..0x30).contains(next)).is_some() {}
                rest.next_if(|next| *next != b'\n');
            }
            _ => {}
        }
    }
    kept
}

/// Skips to the end of a control string, which never goes beyond its line.
fn skip_string(rest: &mut std::iter::Peekable<impl Iterator<Item = u8>>) {
    while let Some(byte) = rest.next_if(|next| *next != b'\n') {
        if byte == BELL || (byte == ESCAPE && rest.next_if_eq(&b'\\').is_some()) {
            return;
        }
    }
}

#[cfg(test)]
#[path = "paint_tests.rs"]
mod tests;
