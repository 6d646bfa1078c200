//! `variables`: the list of all variables, for people.

use std::process::ExitCode;

use serde_json::Value;

use super::print;
use crate::{
    engine::failure::Failure,
    variables::spec::{self, Variable},
};

/// Prints the list.
///
/// # Errors
/// When the list inside this program is broken.
pub(super) fn run() -> Result<ExitCode, Failure> {
    let mut text = String::new();
    for variable in spec::all()? {
        let allowed = match variable.choices.as_slice() {
            [] => variable.kind.words().to_owned(),
            choices => choices.join(", "),
        };
        let default = match &variable.default {
            Value::Null => "not set".to_owned(),
            other => other.to_string(),
        };
        let Variable { name, description, .. } = &variable;
        text += &format!("{name} ({allowed}; {default})\n    {description}\n");
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}
