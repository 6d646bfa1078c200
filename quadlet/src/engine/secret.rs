//! `secret set`: a value from standard input becomes a podman secret. It is never an argument, never
//! shown, never in a file of ours.

use std::io::{IsTerminal as _, Read as _};

use super::{
    failure::{Exit, Failure},
    session::Session,
};

/// The most that Podman stores.
const MOST: u64 = 512_000;

/// Stores it; what was made with the old value is renewed by the next `apply`.
///
/// # Errors
/// When the name or the value cannot be used, or Podman refuses.
pub async fn set(session: &mut Session, name: &str) -> Result<(), Failure> {
    let is_good = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    if name.is_empty()
        || name.len() > 253
        || name.starts_with(['-', '.'])
        || !name.chars().all(is_good)
    {
        return Err(wrong(&format!(
            "the name of the secret is `{name}`: allowed are 1 to 253 letters, digits, `-`, `_` and `.`, beginning with \
             a letter or digit"
        )));
    }
    let value = read(std::io::stdin())?;
    let podman = session.host.podman;
    let is_new = !podman.secrets().await?.contains_key(name);
    if session.options.is_dry_run {
        let word =
            if is_new { "made" } else { "replaced; `quadletgen apply` then restarts what uses it" };
        session.progress.say(&format!("the secret {name} would be {word}"));
        session.progress.say("nothing was changed (--dry-run)");
        return Ok(());
    }
    if is_new {
        session.record.note_secret(name)?;
    }
    podman.store_secret(name, &value).await?;
    session
        .progress
        .say(&format!("✓ secret {name} set; `quadletgen apply` restarts what uses it, one by one"));
    Ok(())
}

fn read(stdin: std::io::Stdin) -> Result<Vec<u8>, Failure> {
    if stdin.is_terminal() {
        return Err(wrong(
            "the value is read from standard input, which is a terminal: `quadletgen secret set NAME < FILE`",
        ));
    }
    let mut value = Vec::new();
    stdin
        .take(MOST + 1)
        .read_to_end(&mut value)
        .map_err(|error| wrong(&format!("standard input cannot be read: {error}")))?;
    // `echo` and editors end with a newline that is nobody's password.
    if value.iter().filter(|byte| **byte == b'\n').count() == 1 && value.ends_with(b"\n") {
        value.pop();
    }
    match value.len() as u64 {
        0 => Err(wrong("standard input is empty: give the value of the secret there")),
        length if length > MOST => {
            Err(wrong("the value has more than 512000 bytes, which Podman does not store"))
        }
        _ => Ok(value),
    }
}

fn wrong(text: &str) -> Failure {
    Failure::new(Exit::Wrong, text)
}
