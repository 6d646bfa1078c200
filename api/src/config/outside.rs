//! Services outside: where each of them is, and what holds for all of them.

use std::time::Duration;

use super::{
    source::{Source, Spec},
    values::{ByteSize, Seconds},
};

const MAX_CALLS: Spec = Spec {
    names: &["OUTSIDE_MAX_CALLS"],
    about: "The most calls of one service outside (Cloud Connector, RBAC, Inventory, …) that are \
            under way at once; more wait within their time.",
    allowed: "1 to 10000",
    secret: false,
};
const MAX_ANSWER: Spec = Spec {
    names: &["OUTSIDE_MAX_ANSWER"],
    about: "The most that an answer of a service outside may take; a longer one is a failure.",
    allowed: "1KB to 64MB",
    secret: false,
};

/// What holds for every service outside.
#[derive(Clone, Copy, Debug)]
pub struct OutsideSettings {
    /// Calls of one service at once.
    pub max_calls: u32,
    /// Bytes of an answer.
    pub max_answer: usize,
}

impl OutsideSettings {
    /// Reads them.
    pub fn read(source: &mut Source) -> Self {
        let range = ByteSize(1_000)..=ByteSize(64_000_000);
        let max_answer = source.within(&MAX_ANSWER, ByteSize(4_000_000), range);
        Self {
            max_calls: source.within(&MAX_CALLS, 100, 1..=10_000),
            max_answer: usize::try_from(max_answer.0).unwrap_or(usize::MAX),
        }
    }
}

/// Who stands for a service outside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Choice {
    /// Nobody.
    Off,
    /// A mock, for trials.
    Mock,
    /// The service itself.
    Real,
}

impl Choice {
    /// Reads it: `impl`, `mock`, or nothing.
    pub fn read(source: &mut Source, spec: &Spec) -> Self {
        match source.text(spec).as_deref() {
            None => Self::Off,
            Some("mock") => Self::Mock,
            Some("impl") => Self::Real,
            Some(other) => {
                source.reject(spec, other);
                Self::Off
            }
        }
    }
}

/// The four settings that say where a service is and how long it may take.
#[derive(Clone, Copy, Debug)]
pub struct AddressSpecs {
    /// `http` or `https`.
    pub scheme: Spec,
    /// Its name or address.
    pub host: Spec,
    /// Its port.
    pub port: Spec,
    /// Seconds that one call may take.
    pub timeout: Spec,
}

/// Where a service is, and how long one call of it may take.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Address {
    /// Scheme, host and port, without a slash at the end.
    pub base: String,
    /// From the first try to connect to the last byte of the answer.
    pub timeout: Duration,
}

/// What is allowed as a scheme.
pub const SCHEMES: &str = "http or https";
/// What is allowed as a host.
pub const HOSTS: &str = "a name or an address, IPv6 in brackets";
/// What is allowed as a port.
pub const PORTS: &str = "1 to 65535";
/// What is allowed as a time.
pub const TIMEOUTS: &str = "0.1 to 300";

impl Address {
    /// Reads it; the names of the original's settings have the original's defaults.
    pub fn read(source: &mut Source, specs: &AddressSpecs, host: &str, port: u16) -> Self {
        let scheme = source.parsed(&specs.scheme, "http".to_owned());
        if !["http", "https"].contains(&scheme.as_str()) {
            source.reject(&specs.scheme, &scheme);
        }
        let host = source.parsed(&specs.host, host.to_owned());
        if !is_host(&host) {
            source.reject(&specs.host, &host);
        }
        let port = source.within(&specs.port, port, 1..=u16::MAX);
        let (least, most) = (Seconds(Duration::from_millis(100)), Seconds::whole(300));
        let timeout = source.within(&specs.timeout, Seconds::whole(10), least..=most);
        Self { base: format!("{scheme}://{host}:{port}"), timeout: timeout.0 }
    }
}

fn is_host(host: &str) -> bool {
    let name = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.chars().all(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses() {
        for good in ["rbac", "rbac.svc.cluster.local", "10.0.0.1", "[::1]", "a_b-c"] {
            assert!(is_host(good), "{good}");
        }
        for bad in ["", "http://rbac", "user@rbac", "rbac/path", "rbac:80", "::1", "[x]", "a b"] {
            assert!(!is_host(bad), "{bad}");
        }
    }
}
