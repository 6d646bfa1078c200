//! What follows from the variables: the expressions of `templates/derived.yml`, which Ansible
//! evaluates, too.

use std::sync::LazyLock;

use serde_json::Value;

use super::{Facts, Problems};
use crate::jinja::{self, Context};

const EXPRESSIONS: &str = include_str!("../../../templates/derived.yml");

/// The expressions, in their order.
static ALL: LazyLock<Result<Context, String>> =
    LazyLock::new(|| yaml_serde::from_str(EXPRESSIONS).map_err(|error| error.to_string()));

/// Adds the facts, and what follows from everything.
///
/// # Errors
/// When an expression cannot be evaluated, which the tests of this crate rule out for values that
/// were checked.
pub(super) fn extend(context: &mut Context, facts: &Facts) -> Result<(), Problems> {
    context.insert("__dispatcher_hostname".to_owned(), facts.hostname.clone().into());
    context.insert("__dispatcher_selinux".to_owned(), facts.selinux.into());
    context.insert("__dispatcher_rootless".to_owned(), facts.rootless.into());
    let broken = |name: &str, error: &dyn std::fmt::Display| {
        Problems::one(format!("{name} of templates/derived.yml cannot be evaluated: {error}"))
    };
    let expressions = ALL.as_ref().map_err(|error| broken("everything", error))?;
    for (name, text) in expressions {
        let value = match inner(text) {
            Some(expression) => {
                jinja::evaluate(expression, context).map_err(|error| broken(name, &error))?
            }
            None => return Err(broken(name, &"it is not one expression in double braces")),
        };
        context.insert(name.clone(), value);
    }
    Ok(())
}

fn inner(text: &Value) -> Option<&str> {
    text.as_str()?.trim().strip_prefix("{{")?.strip_suffix("}}").map(str::trim)
}
