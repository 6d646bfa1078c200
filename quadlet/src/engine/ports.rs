//! The ports that a change needs: those of HAProxy, unless it has them itself, and those of instances
//! that do not run. Found taken before anything is changed.

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use super::{
    balancer,
    desired::Desired,
    failure::{Exit, Failure},
    observe::Observed,
};
use crate::{
    host::ports,
    layout::Layout,
    variables::{Upstream, Variables},
};

/// Refuses where one is somebody else's.
///
/// # Errors
/// When it is, with the variable to change.
pub fn check(layout: &Layout, desired: &Desired, observed: &Observed) -> Result<(), Failure> {
    let variables = &desired.variables;
    let mut wanted = instances(variables, observed);
    if variables.is("dispatcher_haproxy_base") && !layout.is_user {
        wanted.extend(entrances(variables));
    }
    for (variable, at) in wanted {
        let Some(holder) = ports::taken(at, balancer::UNIT) else { continue };
        return Err(Failure::new(
            Exit::Refused,
            format!(
                "port {} is taken by {holder}, at {at}: end that, or set {variable} to another; nothing was changed",
                at.port()
            ),
        ));
    }
    Ok(())
}

/// Of instances that neither run nor are on their way up or down.
fn instances(variables: &Variables, observed: &Observed) -> Vec<(&'static str, SocketAddr)> {
    let Some(host) = ip(variables.text("dispatcher_api_publish_address")) else {
        return Vec::new();
    };
    let mut names = vec!["dispatcher_api_metrics_port"];
    if variables.upstream() == Upstream::Tcp {
        names.insert(0, "dispatcher_api_publish_port");
    }
    let scale = u16::try_from(variables.scale()).unwrap_or(u16::MAX);
    let is_new = |index: &u16| !observed.found.instances.contains_key(index);
    let at = |name: &'static str| {
        let first = port(variables, name);
        let ports = (0..scale).filter(is_new).filter_map(move |index| first?.checked_add(index));
        ports.map(move |port| (name, SocketAddr::new(host, port)))
    };
    names.into_iter().flat_map(at).collect()
}

/// Of HAProxy.
fn entrances(variables: &Variables) -> Vec<(&'static str, SocketAddr)> {
    let addresses =
        variables.context().get("dispatcher_haproxy_addresses").and_then(Value::as_array);
    let all = addresses.into_iter().flatten().filter_map(|address| ip(address.as_str()?));
    let all: Vec<IpAddr> = all.collect();
    let mut names = vec!["dispatcher_haproxy_http_port"];
    if !variables.text("dispatcher_tls_certificate").is_empty() {
        names.push("dispatcher_haproxy_https_port");
    }
    let at = |name: &'static str| {
        let port = port(variables, name);
        all.iter().filter_map(move |ip| Some((name, SocketAddr::new(*ip, port?))))
    };
    let stats = "dispatcher_haproxy_stats_address";
    let page = variables.text(stats).rsplit_once(':');
    let page = page.and_then(|(host, port)| Some(SocketAddr::new(ip(host)?, port.parse().ok()?)));
    let page = page.map(|at| (stats, at));
    names.into_iter().flat_map(at).chain(page).collect()
}

fn port(variables: &Variables, name: &str) -> Option<u16> {
    u16::try_from(variables.number(name)).ok().filter(|port| *port > 0)
}

/// An address as HAProxy and Podman write it; a name is not looked up.
fn ip(text: &str) -> Option<IpAddr> {
    match text.trim_matches(['[', ']']) {
        "*" | "" => Some(IpAddr::from([0, 0, 0, 0])),
        address => address.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::plan::Found;
    use crate::variables::{Facts, deploy};

    fn wanted(lines: &str) -> Vec<String> {
        let variables = Variables::new(deploy::parse(lines).unwrap(), &Facts::default()).unwrap();
        let mut all = entrances(&variables);
        all.extend(instances(
            &variables,
            &Observed { found: Found::default(), changes: Vec::new() },
        ));
        all.iter().map(|(_, at)| at.to_string()).collect()
    }

    #[test]
    fn what_haproxy_and_instances_listen_at_is_known() {
        assert_eq!(wanted("dispatcher_api_container_scale: 2\n"), ["0.0.0.0:80", "127.0.0.1:8404"]);
        let more = "dispatcher_haproxy_addresses: [127.0.0.2, \"::\"]\ndispatcher_tls_certificate: /x.pem\n\
                    dispatcher_haproxy_stats_address: \"\"\ndispatcher_api_upstream: tcp\n\
                    dispatcher_api_metrics_port: 9100\ndispatcher_api_container_scale: 2\n";
        let expected = [
            "127.0.0.2:80",
            "[::]:80",
            "127.0.0.2:443",
            "[::]:443",
            "127.0.0.1:15000",
            "127.0.0.1:15001",
            "127.0.0.1:9100",
            "127.0.0.1:9101",
        ];
        assert_eq!(wanted(more), expected);
    }
}
