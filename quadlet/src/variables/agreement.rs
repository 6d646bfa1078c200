//! What must agree between variables, and what is allowed and yet likely not meant.

use serde_json::Value;

use crate::jinja::Context;

/// Settings whose values may have several lines; the service reads `\n` in them as a line end.
const SEVERAL_LINES: [&str; 1] = ["SSO_PUBLIC_KEY"];

/// What contradicts.
pub(super) fn problems(checked: &Context) -> Vec<String> {
    let mut found = Vec::new();
    ports(checked, &mut found);
    drain(checked, &mut found);
    certificates(checked, &mut found);
    for name in ["dispatcher_settings", "dispatcher_worker_settings"] {
        settings(checked, name, &mut found);
    }
    secrets(checked, &mut found);
    lines(checked, &mut found);
    found
}

/// What is likely not meant.
pub(super) fn notices(checked: &Context) -> Vec<String> {
    let mut found = Vec::new();
    for name in ["dbhost", "dispatcher_redis_url", "amqp_broker_url"] {
        let text = text(checked, name);
        let host = text.split_once("://").map_or(text, |(_, rest)| rest);
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        if ["localhost", "127.", "[::1]", "::1"].iter().any(|local| host.starts_with(local)) {
            found.push(format!(
                "{name} is {text}, which inside a container is the container itself: name the host \
                 by its address, or as host.containers.internal"
            ));
        }
    }
    for name in ["zmq_conn", "analytics_url", "certification_url", "rhdl_api_url", "apihost"] {
        if !text(checked, name).is_empty() {
            found.push(format!("{name} is passed on, and Dispatcher does not use it"));
        }
    }
    found
}

fn ports(checked: &Context, found: &mut Vec<String>) {
    let scale = number(checked, "dispatcher_api_container_scale");
    for name in ["dispatcher_api_publish_port", "dispatcher_api_metrics_port"] {
        let first = number(checked, name);
        if first > 0 && first + scale > 65_536 {
            found.push(format!(
                "{name} is {first}: with {scale} instances the last port is beyond 65535; allowed \
                 is at most {}",
                65_536 - scale
            ));
        }
    }
}

/// HAProxy must have seen that an instance ends before that instance takes no more requests.
fn drain(checked: &Context, found: &mut Vec<String>) {
    let milliseconds = number(checked, "dispatcher_api_drain_delay") * 1000;
    let interval = number(checked, "dispatcher_haproxy_check_interval_ms");
    let fall = number(checked, "dispatcher_haproxy_check_fall");
    let needed = interval * fall + 1000;
    if milliseconds < needed {
        found.push(format!(
            "dispatcher_api_drain_delay is {}: an instance that ends must take requests for longer \
             than HAProxy takes to see that, which is {fall} checks (dispatcher_haproxy_check_fall) \
             every {interval} ms (dispatcher_haproxy_check_interval_ms) and a second; allowed is {} \
             and more, or other checks",
            milliseconds / 1000,
            (needed + 999) / 1000
        ));
    }
}

fn certificates(checked: &Context, found: &mut Vec<String>) {
    if !text(checked, "dispatcher_tls_client_ca").is_empty()
        && text(checked, "dispatcher_tls_certificate").is_empty()
    {
        found.push(
            "dispatcher_tls_client_ca is set without dispatcher_tls_certificate: client \
             certificates exist only with HTTPS; set both or none"
                .to_owned(),
        );
    }
}

fn settings(checked: &Context, name: &str, found: &mut Vec<String>) {
    let map = checked.get(name).and_then(Value::as_object);
    for (setting, value) in map.into_iter().flatten() {
        if !is_environment_name(setting) {
            found.push(format!(
                "{name} has {setting:?}: allowed are names of capital letters, digits and _"
            ));
        }
        let is_long = value.as_str().is_some_and(|text| text.contains(['\n', '\r']));
        if is_long && !SEVERAL_LINES.contains(&setting.as_str()) {
            found.push(format!(
                "{setting} in {name} has several lines, which a file of the environment cannot \
                 hold: make it a secret (`quadletgen secret set NAME`) and name it in \
                 dispatcher_secrets"
            ));
        }
        let is_secret =
            ["PASSWORD", "SECRET", "PSK_AUTH_"].iter().any(|word| setting.contains(word));
        if is_secret && name == "dispatcher_settings" {
            found.push(format!(
                "{setting} in {name} is a secret, and this file holds none: type `quadletgen secret \
                 set NAME` (it reads the value from standard input), and name it: \
                 `dispatcher_secrets: {{{setting}: NAME}}`"
            ));
        }
    }
}

fn secrets(checked: &Context, found: &mut Vec<String>) {
    let map = checked.get("dispatcher_secrets").and_then(Value::as_object);
    for (setting, name) in map.into_iter().flatten() {
        let name = name.as_str().unwrap_or("?");
        let fits = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
        if !is_environment_name(setting) {
            found.push(format!(
                "dispatcher_secrets has {setting:?}: allowed are names of capital letters, digits \
                 and _"
            ));
        }
        if !name.chars().all(fits) || name.starts_with(['.', '-', '_']) || name.len() > 253 {
            found.push(format!(
                "{setting} in dispatcher_secrets is not the name of a podman secret (letters, \
                 digits, . _ -); the value itself must not stand here: type `quadletgen secret set \
                 NAME`"
            ));
        }
    }
}

/// Texts that stand in a line of a unit or of the environment have one line.
fn lines(checked: &Context, found: &mut Vec<String>) {
    for (name, value) in checked {
        let texts = match value {
            Value::Array(texts) => texts.as_slice(),
            one => std::slice::from_ref(one),
        };
        let mut texts = texts.iter().filter_map(Value::as_str);
        if name != "sso_public_key" && texts.any(|text| text.contains(['\n', '\r'])) {
            found.push(format!("{name} has several lines: allowed is one"));
        }
    }
}

fn is_environment_name(name: &str) -> bool {
    let fits =
        |letter: char| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_';
    !name.is_empty() && name.chars().all(fits) && !name.starts_with(|l: char| l.is_ascii_digit())
}

fn text<'a>(checked: &'a Context, name: &str) -> &'a str {
    checked.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn number(checked: &Context, name: &str) -> i64 {
    checked.get(name).and_then(Value::as_i64).unwrap_or_default()
}
