//! From what was set to complete variables: names, types, choices, limits, and what must agree.
//! Everything that is wrong is said at once.

use serde_json::{Number, Value};

use super::{
    Problems, agreement, limits, names,
    spec::{self, Type, Variable},
};
use crate::jinja::Context;

/// The longest text that a variable may hold.
const LONGEST: usize = 64 * 1024;
/// How many unknown names are said one by one.
const MOST_SAID: usize = 20;

/// Checks what was set, and adds defaults. Also gives what is likely not meant.
///
/// # Errors
/// Everything that is wrong.
pub(super) fn complete(set: Context) -> Result<(Context, Vec<String>), Problems> {
    let variables = spec::all()?;
    let mut problems = unknown(&set, variables);
    let mut checked = Context::new();
    for variable in variables {
        match set.get(&variable.name) {
            None | Some(Value::Null) => {}
            Some(value) => match check(variable, value) {
                Ok(value) => drop(checked.insert(variable.name.clone(), value)),
                Err(problem) => problems.push(problem),
            },
        }
    }
    fall_back(&mut checked, &mut problems);
    for variable in variables {
        checked.entry(&variable.name).or_insert_with(|| variable.default.clone());
    }
    if problems.is_empty() {
        problems = agreement::problems(&checked);
    }
    if problems.is_empty() {
        let notices = agreement::notices(&checked);
        Ok((checked, notices))
    } else {
        Err(Problems(problems))
    }
}

fn unknown(set: &Context, variables: &[Variable]) -> Vec<String> {
    let is_known = |name: &str| variables.iter().any(|variable| variable.name == name);
    let all = || variables.iter().map(|variable| variable.name.as_str());
    let say = |name: &String| {
        names::refusal(name).unwrap_or_else(|| match names::nearest(name, all()) {
            Some(meant) => format!("{} is no variable; is {meant} meant?", names::shown(name)),
            None => format!(
                "{} is no variable: `quadletgen variables` lists them all, and settings of the \
                 service go into dispatcher_settings",
                names::shown(name)
            ),
        })
    };
    let mut strange = set.keys().filter(|name| !is_known(name));
    let mut problems: Vec<String> = strange.by_ref().take(MOST_SAID).map(say).collect();
    match strange.count() {
        0 => {}
        more => problems.push(format!("{more} more names are no variables")),
    }
    problems
}

/// The value in its type, or what is wrong with it.
pub(super) fn check(variable: &Variable, value: &Value) -> Result<Value, String> {
    let wrong =
        |allowed: &str| Err(format!("{} is {}: allowed is {allowed}", variable.name, shown(value)));
    let Some(value) = typed(variable.kind, value) else {
        return wrong(&allowed(variable));
    };
    let is_choice = |text: &str| variable.choices.iter().any(|choice| choice == text);
    if !variable.choices.is_empty() && !value.as_str().is_some_and(is_choice) {
        return wrong(&allowed(variable));
    }
    match limits::objection(&variable.name, &value) {
        Some(allowed) => wrong(&allowed),
        None => Ok(value),
    }
}

fn allowed(variable: &Variable) -> String {
    match limits::range(&variable.name) {
        Some(range) => format!("whole numbers from {} to {}", range.start(), range.end()),
        None if variable.choices.is_empty() => variable.kind.words().to_owned(),
        None => variable.choices.join(", "),
    }
}

/// What is shown of a value in an error: enough to find it, and no password.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => format!("{:?}", without_password(text)),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", "))
        }
        Value::Object(items) => {
            let names = items.keys().map(|name| format!("{}: …", names::shown(name)));
            let names: Vec<String> = names.collect();
            format!("{{{}}}", names.join(", "))
        }
        other => other.to_string(),
    };
    if text.chars().count() <= 80 { text } else { text.chars().take(79).chain(['…']).collect() }
}

/// An address without what is between user and host.
fn without_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    match rest.rsplit_once('@') {
        Some((user, host)) if user.contains(':') => {
            let user = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:***@{host}")
        }
        _ => text.to_owned(),
    }
}

/// The value in its type, as Ansible converts it: numbers and switches may be quoted.
fn typed(kind: Type, value: &Value) -> Option<Value> {
    match (kind, value) {
        (Type::Str, Value::Bool(_) | Value::Number(_)) => Some(value.to_string().into()),
        (Type::Str, Value::String(text)) => is_clean(text).then(|| value.clone()),
        (Type::Path, Value::String(text)) => is_path(text).then(|| value.clone()),
        (Type::Int, Value::Number(number)) => number.as_i64().map(Value::from),
        (Type::Int, Value::String(text)) => {
            text.trim().parse::<i64>().ok().map(|number| Value::Number(Number::from(number)))
        }
        (Type::Bool, Value::Bool(_)) => Some(value.clone()),
        (Type::Bool, Value::String(text)) => switch(text).map(Value::Bool),
        (Type::List, Value::Array(items)) => {
            items.iter().map(|item| typed(Type::Str, item)).collect::<Option<_>>().map(Value::Array)
        }
        (Type::Dict, Value::Object(items)) => items.values().all(is_plain).then(|| value.clone()),
        _ => None,
    }
}

fn switch(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Some(true),
        "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

fn is_plain(value: &Value) -> bool {
    match value {
        Value::String(text) => is_clean(text),
        Value::Number(number) => number.is_i64(),
        Value::Bool(_) => true,
        _ => false,
    }
}

/// NUL and its kin cannot be in an environment, nor in a unit.
fn is_clean(text: &str) -> bool {
    let is_bad = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t' | '\r');
    text.len() <= LONGEST && !text.contains(is_bad)
}

/// It stands in units, where blanks, colons and per cents mean something else.
fn is_path(text: &str) -> bool {
    let is_fine = |letter: char| letter.is_ascii_alphanumeric() || "/._-+".contains(letter);
    text.starts_with('/') && text.chars().all(is_fine) && !text.split('/').any(|part| part == "..")
}

/// Lets DCI's names say what ours do not.
fn fall_back(checked: &mut Context, problems: &mut Vec<String>) {
    for (ours, theirs) in names::FALLBACKS {
        let Some(value) = checked.get(theirs).cloned() else { continue };
        match checked.get(ours) {
            None => drop(checked.insert(ours.to_owned(), value)),
            Some(own) if *own == value => {}
            Some(own) => problems.push(format!(
                "{ours} is {} and {theirs} is {}, which say the same thing: keep one of them",
                shown(own),
                shown(&value)
            )),
        }
    }
}
