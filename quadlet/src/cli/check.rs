//! `check`: what is found, one line each.

use std::process::ExitCode;

use super::{in_colour, print};
use crate::{
    check::{self, Finding, Severity},
    engine::failure::{Exit, Failure},
    layout::Layout,
    variables::Variables,
};

/// Checks. What would be refused has the status of a refusal.
///
/// # Errors
/// When a template cannot be rendered.
pub(super) async fn run(layout: &Layout, variables: &Variables) -> Result<ExitCode, Failure> {
    let findings = check::all(variables, layout).await?;
    let mut text = String::new();
    for finding in &findings {
        let (word, colour) = match finding.severity {
            Severity::Fine => ("ok", "\x1b[32m"),
            Severity::Unchecked => ("NOT CHECKED", "\x1b[1;33m"),
            Severity::Doubtful => ("warning", "\x1b[33m"),
            Severity::Wrong => ("error", "\x1b[31m"),
        };
        let (colour, plain) = if in_colour() { (colour, "\x1b[0m") } else { ("", "") };
        let Finding { about, text: what, .. } = finding;
        text += &format!("{colour}{word}{plain}: {about}: {what}\n");
    }
    print(&text)?;
    let is_wrong = findings.iter().any(|finding| finding.severity == Severity::Wrong);
    Ok(if is_wrong { Exit::Refused.into() } else { ExitCode::SUCCESS })
}
