//! Which ports of this host are taken, and by whom: from the kernel's tables, without binding any.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

/// The state of a socket that listens, in the kernel's tables.
const LISTENS: &str = "0A";

/// A socket that listens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Listening {
    at: SocketAddr,
    inode: u64,
}

/// Who listens there already, or at what keeps others from listening there, unless it belongs to this
/// unit of systemd: in words.
#[must_use]
pub fn taken(wanted: SocketAddr, except: &str) -> Option<String> {
    let read = |path: &str| table(&fs::read_to_string(path).unwrap_or_default());
    let mut all = ["/proc/net/tcp", "/proc/net/tcp6"].into_iter().flat_map(read);
    all.find_map(|listening| {
        meet(listening.at, wanted).then_some(())?;
        match holder(listening.inode) {
            Some(process) if is_of(&process, except) => None,
            Some(process) => Some(named(&process)),
            None => Some("another program".to_owned()),
        }
    })
}

/// Whether one keeps the other from listening. What listens at all of IPv6 mostly listens at all of
/// IPv4, too.
fn meet(there: SocketAddr, wanted: SocketAddr) -> bool {
    let is_of_all =
        there.ip().is_unspecified() && (there.is_ipv4() == wanted.is_ipv4() || there.is_ipv6());
    let takes_all = wanted.ip().is_unspecified() && there.is_ipv4() == wanted.is_ipv4();
    there.port() == wanted.port() && (there.ip() == wanted.ip() || is_of_all || takes_all)
}

fn table(text: &str) -> Vec<Listening> {
    let listening = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (at, state) = (words.nth(1)?, words.nth(1)?);
        let inode = words.nth(5)?.parse().ok()?;
        (state == LISTENS).then_some(())?;
        Some(Listening { at: address(at)?, inode })
    };
    text.lines().filter_map(listening).collect()
}

/// As the kernel writes it: words of 32 bits in this machine's order.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let words: Vec<[u8; 4]> = address
        .as_bytes()
        .chunks(8)
        .map(|digits| u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok())
        .map(|word| word.map(u32::to_ne_bytes))
        .collect::<Option<_>>()?;
    let ip = match words.as_slice() {
        [word] => IpAddr::from(Ipv4Addr::from(*word)),
        words => {
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            IpAddr::from(Ipv6Addr::from(bytes)).to_canonical()
        }
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// The process that has that socket, as its folder in `/proc`.
fn holder(inode: u64) -> Option<PathBuf> {
    let wanted = format!("socket:[{inode}]");
    let has = |process: &PathBuf| {
        let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        let mut links = open.filter_map(|file| fs::read_link(file.path()).ok());
        links.any(|link| link.as_os_str() == wanted.as_str())
    };
    let is_process =
        |entry: &fs::DirEntry| entry.file_name().to_string_lossy().parse::<u32>().is_ok();
    let processes = fs::read_dir("/proc").ok()?.flatten().filter(is_process);
    processes.map(|process| process.path()).find(has)
}

fn is_of(process: &Path, unit: &str) -> bool {
    let groups = fs::read_to_string(process.join("cgroup")).unwrap_or_default();
    groups.lines().any(|line| line.ends_with(&format!("/{unit}")))
}

fn named(process: &Path) -> String {
    let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
    let number = process.file_name().unwrap_or_default().to_string_lossy();
    format!("{}, process {number}", name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn who_listens_is_found_in_the_kernels_tables() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap();
        let holder = taken(own, "other.service").unwrap();
        assert!(holder.contains(&std::process::id().to_string()), "{holder}");
        drop(listener);
        assert_eq!(taken(own, "other.service"), None);
    }

    #[test]
    fn addresses_that_keep_each_other_away_are_told() {
        for (there, wanted, expected) in [
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "0.0.0.0:80", true),
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("[::]:80", "0.0.0.0:80", true),
            ("[::]:80", "[::]:80", true),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("0.0.0.0:80", "0.0.0.0:81", false),
            ("0.0.0.0:80", "[::]:80", false),
        ] {
            assert_eq!(meet(at(there), at(wanted)), expected, "{there} {wanted}");
        }
    }

    #[test]
    fn ipv6_is_read_as_well() {
        let text = "  0: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A \
                    00000000:00000000 00:00000000 00000000     0        0 4711 1 x\n";
        assert_eq!(table(text), [Listening { at: at("[::1]:8080"), inode: 4711 }]);
    }
}
