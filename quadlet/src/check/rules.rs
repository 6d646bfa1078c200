//! Own rules for units, where Podman's generator and systemd say nothing: sections that nobody knows,
//! switches that are neither on nor off, ports that cannot be.

use super::{Finding, Severity};
use crate::entry::{Entry, What};

/// Sections that mean something.
const SECTIONS: [&str; 7] =
    ["Unit", "Service", "Install", "Container", "Network", "Volume", "Image"];
/// Keys of `[Container]` that are on or off.
const SWITCHES: [&str; 6] =
    ["ReadOnly", "ReadOnlyTmpfs", "NoNewPrivileges", "RunInit", "VolatileTmp", "EnvironmentHost"];

/// What is wrong with the units among these.
pub(super) fn of(entries: &[Entry]) -> Vec<Finding> {
    entries.iter().flat_map(in_entry).collect()
}

fn in_entry(entry: &Entry) -> Vec<Finding> {
    let is_unit = entry.path.extension().is_some_and(|kind| {
        ["container", "network", "volume", "image", "conf"].iter().any(|own| kind == *own)
    });
    let is_of_tmpfiles = entry.path.parent().is_some_and(|parent| parent.ends_with("tmpfiles.d"));
    match &entry.what {
        What::File { content, .. } if is_unit && !is_of_tmpfiles => {
            let about = entry.path.display().to_string();
            let finding = |text| Finding::new(Severity::Wrong, about.clone(), text);
            in_unit(content).into_iter().map(finding).collect()
        }
        _ => Vec::new(),
    }
}

fn in_unit(content: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut section = String::new();
    for (number, line) in (1..).zip(content.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.to_owned();
            if !SECTIONS.contains(&name) && !name.starts_with("X-") {
                found.push(format!("line {number}: nobody knows the section [{name}]"));
            }
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            found.push(format!(
                "line {number}: `{line}` is neither a section nor a key with a value"
            ));
            continue;
        };
        if section == "Container" {
            found.extend(
                objection(key.trim(), value.trim()).map(|text| format!("line {number}: {text}")),
            );
        }
    }
    found
}

fn objection(key: &str, value: &str) -> Option<String> {
    if SWITCHES.contains(&key)
        && !["true", "false", "yes", "no", "1", "0", "on", "off"].contains(&value)
    {
        return Some(format!(
            "{key} is {value}, which Podman takes for false: write true or false"
        ));
    }
    if key == "PublishPort" && !is_port_mapping(value) {
        return Some(format!(
            "PublishPort is {value}: allowed is [address:][port:]port, with ports from 1 to 65535"
        ));
    }
    if key == "EnvironmentFile" && value.starts_with('-') {
        return Some(format!(
            "EnvironmentFile is {value}: Podman takes the hyphen for a part of the name"
        ));
    }
    None
}

fn is_port_mapping(value: &str) -> bool {
    let value = value.strip_suffix("/tcp").or_else(|| value.strip_suffix("/udp")).unwrap_or(value);
    let (address, rest) = match value.strip_prefix('[').and_then(|rest| rest.split_once("]:")) {
        Some((address, rest)) => (Some(address), rest),
        None => (None, value),
    };
    let mut parts: Vec<&str> = rest.split(':').collect();
    if address.is_none() && parts.len() == 3 {
        let address = parts.remove(0);
        if !address.is_empty() && address.parse::<std::net::Ipv4Addr>().is_err() {
            return false;
        }
    }
    let is_port = |part: &&str| part.parse::<u16>().is_ok_and(|port| port > 0);
    let is_range = |part: &&str| match part.split_once('-') {
        Some((first, last)) => is_port(&first) && is_port(&last),
        None => is_port(part),
    };
    let is_address = address.is_none_or(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
    is_address
        && (1..=2).contains(&parts.len())
        && parts.iter().all(|part| part.is_empty() || is_range(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_podman_lets_pass_is_found() {
        let unit = "[Container]\nImage=x\nReadOnly=maybe\nPublishPort=99999:1\nEnvironmentFile=-/x\n\
                    [Servce]\nA=1\nnonsense\n";
        let found = in_unit(unit);
        assert_eq!(found.len(), 5, "{found:?}");
        for (finding, word) in
            found.iter().zip(["ReadOnly", "PublishPort", "hyphen", "Servce", "nonsense"])
        {
            assert!(finding.contains(word), "{finding}");
        }
    }

    #[test]
    fn ports_are_told_from_what_is_none() {
        for good in [
            "80",
            "8080:80",
            "127.0.0.1:8080:80",
            "[::1]:8080:80",
            "127.0.0.1::80",
            "8000-8010:9000-9010/udp",
        ] {
            assert!(is_port_mapping(good), "{good}");
        }
        for bad in ["0", "65536", "x:80", "1.2.3:80:80", "1:2:3:4", "[::g]:1:2", "80:"] {
            assert_eq!(is_port_mapping(bad), bad == "80:", "{bad}");
        }
    }
}
