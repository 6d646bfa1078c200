//! Reads `deploy.yml`: names with values, nothing else.

use std::{
    fs::{self, File},
    io::{ErrorKind, Read as _},
    path::Path,
};

use serde_json::Value;

use super::{Problems, bounded};
use crate::jinja::Context;

/// The most that the file may take.
const MOST: u64 = 1024 * 1024;

/// Reads the file.
///
/// # Errors
/// When it is not there, cannot be read, or holds something else than names with values.
pub fn read(path: &Path) -> Result<Context, Problems> {
    understood(path, &text(path)?)
}

/// The same for what somebody names, which may be a pipe.
///
/// # Errors
/// As above.
pub fn read_named(path: &Path) -> Result<Context, Problems> {
    understood(path, &opened(path)?)
}

fn understood(path: &Path, text: &str) -> Result<Context, Problems> {
    parse(text).map_err(|reason| Problems::one(format!("{}: {reason}", path.display())))
}

/// The text of the file, not understood yet.
///
/// # Errors
/// When it is not there, cannot be read, or is too long.
pub fn text(path: &Path) -> Result<String, Problems> {
    let shown = path.display();
    let failed = |error: std::io::Error| Problems::one(why_not(path, &error));
    // What is no file could keep whoever opens it waiting.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(Problems::one(format!("{shown} is no file: move away what stands there")));
    }
    opened(path)
}

fn opened(path: &Path) -> Result<String, Problems> {
    let shown = path.display();
    let failed = |error: std::io::Error| Problems::one(why_not(path, &error));
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MOST + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MOST {
        return Err(Problems::one(format!("{shown} has more than {MOST} bytes")));
    }
    Ok(text)
}

fn why_not(path: &Path, error: &std::io::Error) -> String {
    let shown = path.display();
    match (error.kind(), fs::read_link(path)) {
        (ErrorKind::NotFound, Ok(target)) => format!(
            "{shown} is a link to {}, which is not there: make that file, or remove the link",
            target.display()
        ),
        (ErrorKind::NotFound, Err(_)) => format!(
            "{shown} is not there: `quadletgen init` makes it (an empty file is enough: \
             everything has a default)"
        ),
        _ => format!("{shown} cannot be read: {error}"),
    }
}

/// Understands the text of the file.
///
/// # Errors
/// A text that says why not.
pub fn parse(text: &str) -> Result<Context, String> {
    match bounded::read(text)? {
        Value::Object(context) => Ok(context),
        Value::Null => Ok(Context::new()),
        _ => Err("names with values are expected, such as `dispatcher_api_container_scale: 4`"
            .to_owned()),
    }
}
