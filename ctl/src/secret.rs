//! Secrets on their way from the person to the request: from a file, from standard input, from a
//! terminal without showing it, or (at the person's own risk) from the command line. Errors never
//! show a value.

use std::{
    collections::BTreeMap,
    io::{BufRead, IsTerminal, Read, Write},
    path::Path,
};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use serde_json::Value;

use crate::{
    inputs,
    trouble::{Result, Trouble},
};

/// The longest secret or key that is read from standard input, in bytes.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// Turns `--secret` options into the wire's secrets.
pub(crate) fn collect(options: &[String]) -> Result<Option<BTreeMap<String, Value>>> {
    let mut secrets = BTreeMap::new();
    let mut stdin_taken = false;
    for option in options {
        let (name, value) = inputs::pair(option).map_err(|why| {
            Trouble::usage(format!("--secret: {why}")).hint("allowed: k=@file, k=-, k=v")
        })?;
        if value == "-" && std::mem::replace(&mut stdin_taken, !std::io::stdin().is_terminal()) {
            return Err(Trouble::usage(format!(
                "--secret {name}=-: standard input is already another secret"
            )));
        }
        let value = opened(&name, &value)?;
        secrets.insert(name, Value::String(value));
    }
    Ok((!secrets.is_empty()).then_some(secrets))
}

fn opened(name: &str, value: &str) -> Result<String> {
    match value.strip_prefix('@') {
        Some(path) => {
            let text = inputs::read_text(Path::new(path), &format!("the secret {name}"))?;
            Ok(without_line_end(text))
        }
        None if value == "-" => from_stdin(&format!("secret {name}")),
        None => Ok(value.to_owned()),
    }
}

/// Reads from standard input: all of it, or one unseen line where somebody types.
pub(crate) fn from_stdin(what: &str) -> Result<String> {
    let stdin = std::io::stdin();
    let failed = |error: std::io::Error| {
        Trouble::usage(format!("cannot read {what} from standard input: {error}"))
    };
    let mut text = String::new();
    if stdin.is_terminal() {
        let quiet = Unseen::begin(what).map_err(failed)?;
        let read = stdin.lock().take(MAX_SECRET_BYTES).read_line(&mut text);
        drop(quiet);
        read.map_err(failed)?;
    } else {
        stdin.lock().take(MAX_SECRET_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    }
    if text.len() as u64 > MAX_SECRET_BYTES {
        return Err(Trouble::usage(format!("{what} is longer than {MAX_SECRET_BYTES} bytes")));
    }
    Ok(without_line_end(text))
}

/// Editors and `echo` end a file with a line end that nobody means.
fn without_line_end(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    text
}

/// While it lives, the terminal does not show what is typed.
struct Unseen {
    before: Termios,
}

impl Unseen {
    fn begin(what: &str) -> std::io::Result<Self> {
        let before = tcgetattr(std::io::stdin())?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(std::io::stdin(), OptionalActions::Flush, &silent)?;
        let mut stderr = std::io::stderr().lock();
        write!(stderr, "{what}: ").and_then(|()| stderr.flush())?;
        Ok(Self { before })
    }
}

impl Drop for Unseen {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring, and there is nobody left to tell.
        let _gone = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
        crate::output::note("");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_comes_from_a_file_without_its_line_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cret\r\n").unwrap();
        let option = format!("token=@{}", file.path().display());
        let secrets = collect(&[option, "plain=a=b".to_owned()]).unwrap().unwrap();
        assert_eq!(secrets["token"], "s3cret");
        assert_eq!(secrets["plain"], "a=b");
        assert_eq!(collect(&[]).unwrap(), None);
    }

    #[test]
    fn errors_never_show_the_option() {
        let trouble = collect(&["hunter2".to_owned()]).unwrap_err();
        assert!(!trouble.message().contains("hunter2"));
    }
}
