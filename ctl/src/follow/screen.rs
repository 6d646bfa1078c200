//! What somebody who follows a run sees: its output, and above it, until the first line, why it
//! waits. With data asked for on standard output, the run's output goes to standard error.

use std::io::{IsTerminal, Stderr, Stdout, Write};

use super::paint::{Finish, Painter};
use crate::{
    cli::At,
    output::Format,
    text,
    trouble::{Result, Trouble},
};

/// The longest reason that fits one line of most terminals.
const MAX_REASON: usize = 76;

/// Where output goes.
enum Out {
    Stdout(Stdout),
    Stderr(Stderr),
}

/// The output of a run, on its way to a terminal, a file or a program.
pub(crate) struct Screen {
    out: Out,
    painter: Painter,
    /// Whether somebody can watch a line that changes.
    watched: bool,
    begun: bool,
    waiting: bool,
}

impl Screen {
    /// An empty one, as the options and the surroundings ask for.
    pub(crate) fn new(at: &At) -> Self {
        let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
        let watched = stderr.is_terminal();
        let (finish, out) = if at.output == Format::Table {
            (finish(at.color.paints(&stdout), stdout.is_terminal()), Out::Stdout(stdout))
        } else {
            (finish(at.color.paints(&stderr), watched), Out::Stderr(stderr))
        };
        Self { out, painter: Painter::new(finish), watched, begun: false, waiting: false }
    }

    /// Shows a piece of output.
    pub(crate) fn show(&mut self, piece: &[u8]) -> Result<()> {
        let shown = self.painter.feed(piece);
        self.write(&shown)
    }

    /// Shows what was held back; there is no more.
    pub(crate) fn end(&mut self) -> Result<()> {
        let shown = self.painter.end();
        self.write(&shown)?;
        self.interrupt();
        Ok(())
    }

    /// Whether somebody watches, with nothing to see yet.
    pub(crate) fn wants_reason(&self) -> bool {
        self.watched && !self.begun
    }

    /// Tells why nothing is to be seen yet, in a line that output will replace.
    pub(crate) fn waits(&mut self, reason: Option<&str>) {
        if !self.wants_reason() {
            return;
        }
        let reason =
            text::shorten(&text::clean(reason.unwrap_or("waiting for output")), MAX_REASON);
        // Only a decoration of standard error.
        let _closed = write!(std::io::stderr(), "\r\x1b[K{reason}");
        self.waiting = true;
    }

    /// Makes room for a note: the line that told the reason goes.
    pub(crate) fn interrupt(&mut self) {
        if std::mem::take(&mut self.waiting) {
            let _closed = write!(std::io::stderr(), "\r\x1b[K");
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.interrupt();
        self.begun = true;
        let written = match &mut self.out {
            Out::Stdout(out) => all(&mut out.lock(), bytes),
            Out::Stderr(out) => all(&mut out.lock(), bytes),
        };
        written.map_err(|error| Trouble::output(&error))
    }
}

fn all(out: &mut impl Write, bytes: &[u8]) -> std::io::Result<()> {
    out.write_all(bytes)?;
    out.flush()
}

fn finish(paints: bool, terminal: bool) -> Finish {
    match (paints, terminal) {
        (true, _) => Finish::Coloured,
        (false, true) => Finish::Visible,
        (false, false) => Finish::Plain,
    }
}
