//! How answers look: tables, JSON, YAML; standard output with its failures, notes on standard
//! error. What others wrote is cleaned before it reaches a terminal.

use std::io::{IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Row, Table, presets};
use dispatcher_wire::RunStatus;
use serde::Serialize;

use crate::{
    cli::At,
    text,
    trouble::{Result, Trouble},
};

/// The colour of what is well.
pub(crate) const GOOD: Color = Color::DarkGreen;
/// The colour of what goes on.
pub(crate) const BUSY: Color = Color::DarkCyan;
/// The colour of what is not well.
pub(crate) const BAD: Color = Color::DarkRed;

/// How answers look.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// JSON, as the dispatcher answered.
    Json,
    /// The same as YAML.
    Yaml,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum ColorChoice {
    /// In a terminal, unless `NO_COLOR` is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl ColorChoice {
    /// Whether to colour what goes to this stream.
    pub(crate) fn paints(self, stream: &impl IsTerminal) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => stream.is_terminal() && colours_wanted(),
        }
    }
}

fn colours_wanted() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !refused && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Writes to standard output and flushes, so that nothing is lost or reported too late.
pub(crate) fn print(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| Trouble::output(&error))
}

/// Prints a line.
pub(crate) fn say(line: &str) -> Result<()> {
    print(format!("{line}\n").as_bytes())
}

/// A line on standard error, for the person; a closed standard error loses it, as intended.
pub(crate) fn note(line: &str) {
    let _closed = writeln!(std::io::stderr().lock(), "{line}");
}

/// Prints a value as JSON or YAML.
pub(crate) fn data(format: Format, value: &impl Serialize) -> Result<()> {
    let failed = |error: &dyn std::fmt::Display| Trouble::failed(format!("cannot show: {error}"));
    let text = match format {
        Format::Yaml => yaml_serde::to_string(value).map_err(|error| failed(&error))?,
        _ => serde_json::to_string_pretty(value).map_err(|error| failed(&error))? + "\n",
    };
    print(text.as_bytes())
}

/// Columns for people: a dim header, cells in line, nothing else.
pub(crate) struct Columns {
    table: Table,
}

impl Columns {
    /// Columns with these headers; without any, for names and values.
    pub(crate) fn new(at: &At, headers: &[&str]) -> Self {
        let stdout = std::io::stdout();
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        if stdout.is_terminal() {
            table.set_content_arrangement(ContentArrangement::Dynamic);
            table.set_truncation_indicator("…");
        } else {
            table.force_no_tty().set_content_arrangement(ContentArrangement::Disabled);
        }
        if at.color.paints(&stdout) {
            table.enforce_styling();
        } else {
            table.force_no_tty();
            keep_width(&mut table, stdout.is_terminal());
        }
        if !headers.is_empty() {
            table.set_header(headers.iter().map(|h| Cell::new(h).add_attribute(Attribute::Dim)));
        }
        Self { table }
    }

    /// Adds a line; what does not fit the terminal is cut, not wrapped.
    pub(crate) fn row(&mut self, cells: Vec<Cell>) {
        let mut row = Row::from(cells);
        row.max_height(1);
        self.table.add_row(row);
    }

    /// Prints them.
    pub(crate) fn print(mut self) -> Result<()> {
        for column in self.table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        let lines: Vec<_> =
            self.table.lines().map(|line| format!("{}\n", line.trim_end())).collect();
        print(lines.concat().as_bytes())
    }
}

/// A table that is told not to ask the terminal for anything must be told its width.
fn keep_width(table: &mut Table, in_terminal: bool) {
    if in_terminal && let Some((columns, _)) = terminal_size() {
        table.set_width(columns);
    }
}

fn terminal_size() -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    (size.ws_col > 0).then_some((size.ws_col, size.ws_row))
}

/// A cell with foreign text.
pub(crate) fn cell(text: impl AsRef<str>) -> Cell {
    Cell::new(text::clean(text.as_ref()))
}

/// A cell with a run's status, in its colour.
pub(crate) fn status_cell(status: RunStatus) -> Cell {
    Cell::new(status).fg(match status {
        RunStatus::Running => BUSY,
        RunStatus::Success => GOOD,
        RunStatus::Failure => BAD,
        RunStatus::Timeout => Color::DarkMagenta,
        RunStatus::Canceled => Color::DarkYellow,
    })
}

/// An id for people: its beginning in a terminal, all of it elsewhere, where programs read.
pub(crate) fn short_id(id: &uuid::Uuid) -> String {
    let full = id.to_string();
    if std::io::stdout().is_terminal() { full.chars().take(8).collect() } else { full }
}

/// The name of something, beside its value.
pub(crate) fn dim(name: &str) -> Cell {
    Cell::new(name).add_attribute(Attribute::Dim)
}
