//! What must agree between variables, and what is allowed and yet likely not meant.

use std::net::IpAddr;

use serde_json::Value;

use super::environment;
use crate::jinja::Context;

/// The largest body that the service can be told to take, in MiB.
const LARGEST_BODY: i64 = 95;

/// What contradicts.
pub(super) fn problems(checked: &Context) -> Vec<String> {
    let mut found = Vec::new();
    ports(checked, &mut found);
    drain(checked, &mut found);
    certificates(checked, &mut found);
    network(checked, &mut found);
    socket(checked, &mut found);
    words(checked, &mut found);
    environment::problems(checked, &mut found);
    lines(checked, &mut found);
    balancer(checked, &mut found);
    found
}

/// HAProxy here, elsewhere, or somebody else's.
fn balancer(checked: &Context, found: &mut Vec<String>) {
    let is_on = |name: &str| checked.get(name) == Some(&Value::Bool(true));
    let count = |name: &str| checked.get(name).and_then(Value::as_array).map_or(0, Vec::len);
    if count("dispatcher_haproxy_reload_command") > 0 && is_on("dispatcher_haproxy_base") {
        found.push(
            "dispatcher_haproxy_reload_command is set, and dispatcher_haproxy_base is true: HAProxy \
             is reloaded by its own unit then; set dispatcher_haproxy_base: false, or leave the \
             command out"
                .to_owned(),
        );
    }
    if !is_on("dispatcher_haproxy_enabled") && text(checked, "dispatcher_api_upstream") == "unix" {
        found.push(
            "dispatcher_api_upstream is unix and dispatcher_haproxy_enabled is false: HAProxy on \
             another host does not reach a socket of this one; set tcp, or leave it out"
                .to_owned(),
        );
    }
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
    let largest = number(checked, "max_content_length_mb");
    if largest > LARGEST_BODY {
        found.push(format!(
            "max_content_length_mb is {largest}: Dispatcher takes bodies of at most {LARGEST_BODY} MiB, which is applied"
        ));
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
    let published = number(checked, "dispatcher_api_publish_port");
    let metrics = number(checked, "dispatcher_api_metrics_port");
    if metrics > 0 && scale > 0 && (published - metrics).abs() < scale {
        found.push(format!(
            "dispatcher_api_publish_port is {published} and dispatcher_api_metrics_port is \
             {metrics}: {scale} ports from each on must not meet"
        ));
    }
}

/// The host's own address must be one of the network's.
fn network(checked: &Context, found: &mut Vec<String>) {
    let (subnet, gateway) =
        (text(checked, "dispatcher_network_subnet"), text(checked, "dispatcher_network_gateway"));
    if !subnet.is_empty() && !gateway.is_empty() && !contains(subnet, gateway) {
        found.push(format!(
            "dispatcher_network_gateway is {gateway}, which is not in dispatcher_network_subnet, \
             {subnet}: set an address of it (or both empty)"
        ));
    }
}

fn contains(subnet: &str, address: &str) -> bool {
    let bits = |address: &str| match address.parse() {
        Ok(IpAddr::V4(address)) => Some((u128::from(address.to_bits()), 32)),
        Ok(IpAddr::V6(address)) => Some((address.to_bits(), 128)),
        Err(_) => None,
    };
    let Some((network, length)) = subnet.split_once('/') else { return false };
    let (Some((network, width)), Some((address, own)), Ok(length)) =
        (bits(network), bits(address), length.parse::<u32>())
    else {
        return false;
    };
    let host = width - length.min(width);
    let part = |bits: u128| bits.checked_shr(host).unwrap_or(0);
    width == own && part(network) == part(address)
}

/// Quadlet drops what follows an empty word, and systemd begins another command at a semicolon.
fn words(checked: &Context, found: &mut Vec<String>) {
    let words = checked.get("dispatcher_api_exec").and_then(Value::as_array);
    let mut words = words.into_iter().flatten().filter_map(Value::as_str);
    if words.any(|word| word.is_empty() || word == ";") {
        found.push(
            "dispatcher_api_exec has an empty word or a lone semicolon, which a unit cannot pass \
             on: allowed are other words; use a script in the image"
                .to_owned(),
        );
    }
}

/// The directory of a socket belongs to a number.
fn socket(checked: &Context, found: &mut Vec<String>) {
    if text(checked, "dispatcher_api_upstream") == "unix"
        && text(checked, "dispatcher_api_container_user").is_empty()
    {
        found.push(
            "dispatcher_api_upstream is unix and dispatcher_api_container_user is empty: the \
             directory of a socket needs an owner; set the user that the image has, by number, or \
             tcp"
            .to_owned(),
        );
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

fn text<'a>(checked: &'a Context, name: &str) -> &'a str {
    checked.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn number(checked: &Context, name: &str) -> i64 {
    checked.get(name).and_then(Value::as_i64).unwrap_or_default()
}
