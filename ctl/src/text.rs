//! Text that others wrote, made safe and short for a terminal; times and durations for people.
//! Pure: no IO, no clock.

use std::time::Duration;

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Makes one line of foreign text harmless: control characters (escape sequences begin with one)
/// become visible and line ends become spaces.
pub(crate) fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(' '),
            '\r' => {}
            c if is_control(c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Control characters, and the marks that reorder text so that it reads as something else.
pub(crate) fn is_control(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The first characters of a text, with a mark where some are missing.
pub(crate) fn shorten(text: &str, most: usize) -> String {
    let mut chars = text.chars();
    let head: String = chars.by_ref().take(most).collect();
    if chars.next().is_some() { format!("{head}…") } else { head }
}

/// How long ago something was, like `42s`, `3m`, `5h`, `2d`.
pub(crate) fn age(then: &str, now: OffsetDateTime) -> String {
    match OffsetDateTime::parse(then, &Rfc3339) {
        Ok(then) => coarse((now - then).whole_seconds().max(0)),
        Err(_) => clean(then),
    }
}

fn coarse(seconds: i64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// How long something took, like `0.8s`, `42s`, `3m 5s`, `2h 1m`.
pub(crate) fn span(from: &str, to: &str) -> Option<String> {
    let from = OffsetDateTime::parse(from, &Rfc3339).ok()?;
    let to = OffsetDateTime::parse(to, &Rfc3339).ok()?;
    Some(precise(Duration::try_from(to - from).unwrap_or_default()))
}

fn precise(took: Duration) -> String {
    let seconds = took.as_secs();
    match seconds {
        0..10 => format!("{:.1}s", took.as_secs_f64()),
        10..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        _ => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// Bytes for people, like `512 B`, `1.4 KiB`, `63.9 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 3] = ["KiB", "MiB", "GiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
    let mut value = count as f64 / 1024.0;
    let mut unit = UNITS[0];
    for next in UNITS.iter().skip(1) {
        if value >= 1024.0 {
            value /= 1024.0;
            unit = next;
        }
    }
    format!("{value:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_steer_a_terminal() {
        assert_eq!(
            clean("a\u{1b}[2Jb\nc\u{9b}1m\u{202e}x\r"),
            "a\u{fffd}[2Jb c\u{fffd}1m\u{fffd}x"
        );
    }

    #[test]
    fn ages_are_one_number_and_a_unit() {
        let now = OffsetDateTime::parse("2026-01-02T00:00:00Z", &Rfc3339).unwrap();
        for (then, want) in [
            ("2026-01-02T00:00:05Z", "0s"),
            ("2026-01-01T23:59:18Z", "42s"),
            ("2026-01-01T23:56:30.123456Z", "3m"),
            ("2026-01-01T00:00:00Z", "24h"),
            ("2025-12-01T00:00:00Z", "32d"),
            ("never", "never"),
        ] {
            assert_eq!(age(then, now), want, "{then}");
        }
    }

    #[test]
    fn spans_are_finer_where_it_matters() {
        let span = |to| span("2026-01-01T00:00:00Z", to).unwrap();
        assert_eq!(span("2026-01-01T00:00:00.84Z"), "0.8s");
        assert_eq!(span("2026-01-01T00:00:42Z"), "42s");
        assert_eq!(span("2026-01-01T00:03:05Z"), "3m 5s");
        assert_eq!(span("2026-01-01T02:01:05Z"), "2h 1m");
        assert_eq!(span("2025-01-01T00:00:00Z"), "0.0s");
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1434), "1.4 KiB");
        assert_eq!(bytes(64 * 1024 * 1024), "64.0 MiB");
        assert_eq!(bytes(5 * 1024 * 1024 * 1024), "5.0 GiB");
    }
}
