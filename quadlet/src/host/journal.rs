//! The journal of a unit: its last lines for errors, and all of it for people.

use std::{process::Stdio, time::Duration};

use super::program::{Program, ProgramError};

/// The last lines of a unit, oldest first, without Podman's own events. What cannot be read is said in
/// their place: this is for errors, which must not be hidden by another.
pub async fn last_lines(is_user: bool, unit: &str, count: usize) -> Vec<String> {
    let program = Program::new("journalctl")
        .args(is_user.then_some("--user"))
        .args(["--unit", unit, "--lines", "200", "--no-pager", "--quiet", "--output", "short-iso"])
        .within(Duration::from_secs(10));
    match program.run().await {
        Ok(text) => {
            let own = text.lines().filter(|line| !line.contains(" podman["));
            let lines: Vec<String> = own.map(|line| line.chars().take(600).collect()).collect();
            let skipped = lines.len().saturating_sub(count);
            lines.into_iter().skip(skipped).collect()
        }
        Err(error) => vec![format!("(the journal cannot be read: {error})")],
    }
}

/// Shows the journal of these units until it ends or, following, until the reader has had enough.
///
/// # Errors
/// When journalctl cannot be run.
pub async fn show(
    is_user: bool,
    units: &[String],
    lines: u32,
    is_following: bool,
) -> Result<bool, ProgramError> {
    let start = |source| ProgramError::Start { program: "journalctl".to_owned(), source };
    let mut command = tokio::process::Command::new("journalctl");
    command
        .args(is_user.then_some("--user"))
        .args(units.iter().flat_map(|unit| ["--unit", unit.as_str()]));
    command.args(["--lines", &lines.to_string(), "--output", "short-iso"]);
    command.arg(if is_following { "--follow" } else { "--no-pager" });
    let status = command.stdin(Stdio::null()).status().await.map_err(start)?;
    // Ended by Ctrl-C is how one stops following.
    Ok(status.success() || (is_following && status.code().is_none_or(|code| code >= 128)))
}
