//! Changes as people read them: a unified difference, in colours where wanted. Values that may be
//! secret are never in it.

use std::{collections::BTreeSet, fmt::Write as _};

use similar::{ChangeTag, TextDiff};

use super::{Change, manifest::digest};
use crate::entry::What;

const RED: &str = "\x1b[31m";
const GREEN: &str = "\x1b[32m";
const CYAN: &str = "\x1b[36m";
const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";

/// Words in names of settings whose values are not shown.
const SECRET: [&str; 6] = ["PASSWORD", "SECRET", "TOKEN", "PSK", "PRIVATE", "ACCESS_KEY"];

/// One change.
#[must_use]
pub fn unified(change: &Change, in_colour: bool) -> String {
    let paint = |colour: &'static str| if in_colour { colour } else { "" };
    let plain = paint(PLAIN);
    let mut text = String::new();
    let (before, after) = sides(change);
    let path = change.path.display();
    let drift = if change.is_drift { "  (was changed by somebody else)" } else { "" };
    let side = |what: &Option<What>| {
        if what.is_some() { path.to_string() } else { "/dev/null".to_owned() }
    };
    let bold = paint(BOLD);
    let _ = writeln!(text, "{bold}--- {}{drift}{plain}", side(&change.before));
    let _ = writeln!(text, "{bold}+++ {}{plain}", side(&change.after));
    if let Some(line) = modes(change) {
        let _ = writeln!(text, "{}{line}{plain}", paint(CYAN));
    }
    if before == after && differs(change) {
        let _ = writeln!(text, "{}a value that is not shown changes{plain}", paint(CYAN));
    }
    let diff = TextDiff::from_lines(&before, &after);
    for group in diff.grouped_ops(3) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let old = first.old_range().start..last.old_range().end;
        let new = first.new_range().start..last.new_range().end;
        let at = |range: &std::ops::Range<usize>| format!("{},{}", range.start + 1, range.len());
        let _ = writeln!(text, "{}@@ -{} +{} @@{plain}", paint(CYAN), at(&old), at(&new));
        for line in group.iter().flat_map(|op| diff.iter_changes(op)) {
            let (sign, colour) = match line.tag() {
                ChangeTag::Delete => ('-', paint(RED)),
                ChangeTag::Insert => ('+', paint(GREEN)),
                ChangeTag::Equal => (' ', ""),
            };
            let end = if colour.is_empty() { "" } else { plain };
            let _ = writeln!(text, "{colour}{sign}{}{end}", line.value().trim_end_matches('\n'));
        }
    }
    text
}

/// Whether the content itself differs.
fn differs(change: &Change) -> bool {
    change.before.as_ref().map(digest) != change.after.as_ref().map(digest)
}

/// Both sides as text, without what may be secret.
fn sides(change: &Change) -> (String, String) {
    let text = |what: &Option<What>| match what {
        None => String::new(),
        Some(What::Link { target }) => format!("link to {}\n", target.display()),
        Some(What::File { content, .. }) => content.clone(),
    };
    let (before, after) = (text(&change.before), text(&change.after));
    if !change.is_secret || matches!(change.before, Some(What::Link { .. })) {
        return (before, after);
    }
    let ours = names(&after);
    (masked(&before, &ours), masked(&after, &ours))
}

fn modes(change: &Change) -> Option<String> {
    match (&change.before, &change.after) {
        (Some(What::File { mode: old, .. }), Some(What::File { mode: new, .. })) if old != new => {
            Some(format!("mode {old:04o} becomes {new:04o}"))
        }
        _ => None,
    }
}

fn names(content: &str) -> BTreeSet<&str> {
    content.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect()
}

/// Values are shown where their names are among those that we write ourselves, do not sound secret,
/// and are no address with a password. Everything else is hidden; that there is something is not.
fn masked(content: &str, ours: &BTreeSet<&str>) -> String {
    let line = |line: &str| match line.split_once('=') {
        _ if line.is_empty() || line.starts_with('#') => line.to_owned(),
        Some((name, value)) if ours.contains(name) && !is_secret(name, value) => line.to_owned(),
        Some((name, _)) => format!("{name}=***"),
        None => "***".to_owned(),
    };
    content.lines().map(|text| line(text) + "\n").collect()
}

fn is_secret(name: &str, value: &str) -> bool {
    let in_address = value
        .split_once("://")
        .is_some_and(|(_, rest)| rest.split('/').next().is_some_and(|a| a.contains('@')));
    in_address || SECRET.iter().any(|word| name.contains(word))
}
