//! Reads `deploy.yml`: names with values, nothing else.

use std::{
    fs::File,
    io::{ErrorKind, Read as _},
    path::Path,
};

use serde_json::Value;

use super::Problems;
use crate::jinja::Context;

/// The most that the file may take.
const MOST: u64 = 1024 * 1024;

/// Reads the file.
///
/// # Errors
/// When it is not there, cannot be read, or holds something else than names with values.
pub fn read(path: &Path) -> Result<Context, Problems> {
    let shown = path.display();
    let failed = |error: std::io::Error| {
        Problems::one(match error.kind() {
            ErrorKind::NotFound => format!(
                "{shown} is not there: `quadletgen init` makes it (an empty file is enough: \
                 everything has a default)"
            ),
            _ => format!("{shown} cannot be read: {error}"),
        })
    };
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MOST + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MOST {
        return Err(Problems::one(format!("{shown} has more than {MOST} bytes")));
    }
    parse(&text).map_err(|reason| Problems::one(format!("{shown}: {reason}")))
}

/// Understands the text of the file.
///
/// # Errors
/// A text that says why not.
pub fn parse(text: &str) -> Result<Context, String> {
    // The reader's own mapping refuses a name that is there twice.
    let value: yaml_serde::Value = yaml_serde::from_str(text).map_err(|error| error.to_string())?;
    let what = "names with values are expected, such as `dispatcher_api_container_scale: 4`";
    match serde_json::to_value(value) {
        Ok(Value::Object(context)) => Ok(context),
        Ok(Value::Null) => Ok(Context::new()),
        Ok(_) => Err(what.to_owned()),
        Err(error) => Err(format!("{what}; {error}")),
    }
}
