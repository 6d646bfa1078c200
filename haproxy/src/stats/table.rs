//! A table of HAProxy: a head that begins with `# `, lines of cells with commas between them, quotes
//! around cells that need them. Columns are found by name: versions add some in the middle.

use std::collections::HashMap;

/// Columns without which it is not the table of servers.
const NEEDED: [&str; 4] = ["pxname", "svname", "status", "type"];

pub(super) struct Table {
    columns: HashMap<String, usize>,
    rows: Vec<Vec<String>>,
}

pub(super) struct Row<'a> {
    columns: &'a HashMap<String, usize>,
    cells: &'a [String],
}

impl Table {
    pub(super) fn of(text: &str) -> Option<Self> {
        let mut rows = cells(text.strip_prefix("# ")?).into_iter();
        let head = rows.next()?;
        let columns: HashMap<_, _> = head.into_iter().zip(0..).collect();
        let is_whole = NEEDED.iter().all(|name| columns.contains_key(*name));
        is_whole.then(|| Self { columns, rows: rows.collect() })
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.rows.iter().map(|cells| Row { columns: &self.columns, cells })
    }
}

impl Row<'_> {
    /// A cell's text; empty where there is no such cell.
    pub(super) fn text(&self, column: &str) -> &str {
        let cell = self.columns.get(column).and_then(|at| self.cells.get(*at));
        cell.map_or("", String::as_str)
    }

    pub(super) fn number(&self, column: &str) -> Option<u64> {
        self.text(column).parse().ok()
    }
}

/// Lines of cells; empty lines are none.
fn cells(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell) = (Vec::new(), Vec::new(), String::new());
    let (mut quoted, mut characters) = (false, text.chars().peekable());
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut cell)),
            '\n' if !quoted => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            other => cell.push(other),
        }
    }
    // A line without an end was cut off: it is not believed.
    rows.retain(|row: &Vec<String>| row.len() > 1);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hide_commas_quotes_and_line_ends() {
        let rows = cells("a,\"b, \"\"c\"\"\nd\",e\n\nf,\n1,2");
        assert_eq!(rows, [vec!["a", "b, \"c\"\nd", "e"], vec!["f", ""]]);
    }

    #[test]
    fn columns_are_found_by_name() {
        let table = Table::of("# type,new,status,svname,pxname\n2,x,UP,s,p\n").unwrap();
        let row = table.rows().next().unwrap();
        assert_eq!((row.text("pxname"), row.number("type"), row.text("none")), ("p", Some(2), ""));
    }
}
