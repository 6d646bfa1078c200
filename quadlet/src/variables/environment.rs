//! What may stand in the maps of settings and of secrets: names, lines, and no secret at all.

use serde_json::Value;

use crate::jinja::Context;

/// Settings whose values may have several lines; the service reads `\n` in them as a line end.
const SEVERAL_LINES: [&str; 1] = ["SSO_PUBLIC_KEY"];

/// Words in the names of settings that are secret.
const SECRET: [&str; 4] = ["PASSWORD", "SECRET", "PSK_AUTH_", "PRIVATE_KEY"];

/// Settings that units or HAProxy have to agree with, and the variables that see to that.
const ELSEWHERE: [(&str, &str); 9] = [
    ("DRAIN_DELAY", "dispatcher_api_drain_delay"),
    ("GRACEFUL_TIMEOUT", "dispatcher_api_graceful_timeout"),
    ("INSTANCE_NAME", "nothing: each instance has the name of its host with its number"),
    ("LISTEN", "dispatcher_api_upstream or dispatcher_api_container_port"),
    ("METRICS_PORT", "dispatcher_api_metrics_port"),
    ("PUBLIC_URL", "dispatcher_public_url"),
    ("STORE_ENGINE", "store_engine"),
    ("STORE_FILE_PATH", "store_file_path"),
    ("WATCHDOG_TIMEOUT", "dispatcher_api_watchdog"),
];

/// What cannot be.
pub(super) fn problems(checked: &Context, found: &mut Vec<String>) {
    for name in ["dispatcher_settings", "dispatcher_worker_settings"] {
        for (setting, value) in map(checked, name) {
            found.extend(in_settings(name, setting, value));
        }
    }
    if !is_foreign(checked) {
        let settings = map(checked, "dispatcher_settings").map(|(setting, _)| setting);
        found.extend(settings.filter_map(|setting| elsewhere(setting)));
    }
    for (setting, name) in map(checked, "dispatcher_secrets") {
        found.extend(in_secrets(setting, name));
        if map(checked, "dispatcher_settings").any(|(own, _)| own == setting) {
            found.push(format!(
                "{setting} is in dispatcher_settings and in dispatcher_secrets: keep one of them"
            ));
        }
    }
    found.extend(password(checked));
}

fn map<'a>(
    checked: &'a Context,
    name: &str,
) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
    checked.get(name).and_then(Value::as_object).into_iter().flatten()
}

fn is_foreign(checked: &Context) -> bool {
    let is_set = |name: &str| {
        checked.get(name).and_then(Value::as_array).is_some_and(|words| !words.is_empty())
    };
    is_set("dispatcher_api_exec") || is_set("dispatcher_api_health_cmd")
}

fn in_settings(name: &str, setting: &str, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if !is_environment_name(setting) {
        found.push(format!(
            "{name} has {setting:?}: allowed are names of capital letters, digits and _"
        ));
    }
    let text = value.as_str().unwrap_or_default();
    if text.contains(['\n', '\r']) && !SEVERAL_LINES.contains(&setting) {
        found.push(format!(
            "{setting} in {name} has several lines, which a file of the environment cannot hold: \
             make it a secret (`quadletgen secret set NAME`), and name it: `dispatcher_secrets: \
             {{{setting}: NAME}}`"
        ));
    }
    if SECRET.iter().any(|word| setting.contains(word)) || has_password(text) {
        found.push(format!(
            "{setting} in {name} is a secret, and this file holds none: type `quadletgen secret set \
             NAME` (it reads the value from standard input), and name it: `dispatcher_secrets: \
             {{{setting}: NAME}}`"
        ));
    }
    found
}

/// An address with user and password.
fn has_password(text: &str) -> bool {
    let authority = text.split_once("://").and_then(|(_, rest)| rest.split('/').next());
    let user = authority.and_then(|authority| authority.rsplit_once('@')).map(|(user, _)| user);
    user.is_some_and(|user| user.contains(':'))
}

fn elsewhere(setting: &str) -> Option<String> {
    let (_, instead) = ELSEWHERE.iter().find(|(own, _)| *own == setting)?;
    Some(format!(
        "{setting} in dispatcher_settings would not agree with the units: set {instead} instead"
    ))
}

fn in_secrets(setting: &str, name: &Value) -> Vec<String> {
    let mut found = Vec::new();
    if !is_environment_name(setting) {
        found.push(format!(
            "dispatcher_secrets has {setting:?}: allowed are names of capital letters, digits and _"
        ));
    }
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    let is_name = name.as_str().is_some_and(|name| {
        name.chars().all(fits) && !name.starts_with(['.', '-', '_']) && name.len() <= 253
    });
    if !is_name {
        found.push(format!(
            "{setting} in dispatcher_secrets is not the name of a podman secret (letters, digits, . \
             _ -); the value itself must not stand here: type `quadletgen secret set NAME`"
        ));
    }
    found
}

/// The bundled PostgreSQL has a password.
fn password(checked: &Context) -> Option<String> {
    let is_bundled = checked.get("dbhost").is_none_or(Value::is_null)
        && checked.get("dispatcher_postgresql_enabled") == Some(&Value::Bool(true))
        && !map(checked, "dispatcher_secrets").any(|(setting, _)| setting == "DATABASE_URL");
    let is_without = map(checked, "dispatcher_secrets")
        .any(|(setting, name)| setting == "DB_PASSWORD" && name.as_str() == Some(""));
    (is_bundled && is_without).then(|| {
        "DB_PASSWORD in dispatcher_secrets is empty: the PostgreSQL of this host needs a password; \
         leave it out, or name a secret"
            .to_owned()
    })
}

fn is_environment_name(name: &str) -> bool {
    let fits =
        |letter: char| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_';
    !name.is_empty() && name.chars().all(fits) && !name.starts_with(|l: char| l.is_ascii_digit())
}
