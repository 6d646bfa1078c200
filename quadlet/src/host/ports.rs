//! Which ports of this host are taken, and by whom: from the kernel's tables, without binding any.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// The state of a socket that listens, in the kernel's tables.
const LISTENS: &str = "0A";

/// A socket that listens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Listening {
    at: SocketAddr,
    inode: u64,
}

/// Of these addresses the first that somebody listens at, with the name of the program where it can be
/// found out.
#[must_use]
pub fn taken(wanted: &[SocketAddr]) -> Option<(SocketAddr, Option<String>)> {
    let read = |path: &str| table(&fs::read_to_string(path).unwrap_or_default());
    let all: Vec<Listening> =
        ["/proc/net/tcp", "/proc/net/tcp6"].into_iter().flat_map(read).collect();
    wanted.iter().find_map(|wanted| {
        let found = all.iter().find(|listening| meet(listening.at, *wanted))?;
        Some((*wanted, holder(found.inode)))
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

/// The program that has that socket, and its process.
fn holder(inode: u64) -> Option<String> {
    let wanted = format!("socket:[{inode}]");
    let has = |process: &fs::DirEntry| {
        let open = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        let mut links = open.filter_map(|file| fs::read_link(file.path()).ok());
        links.any(|link| link.as_os_str() == wanted.as_str())
    };
    let is_process =
        |entry: &fs::DirEntry| entry.file_name().to_string_lossy().parse::<u32>().is_ok();
    let mut processes = fs::read_dir("/proc").ok()?.flatten().filter(is_process);
    let process = processes.find(has)?;
    let name = fs::read_to_string(process.path().join("comm")).ok()?;
    Some(format!("{}, process {}", name.trim(), process.file_name().to_string_lossy()))
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
        let (found, holder) = taken(&[own]).unwrap();
        assert_eq!(found, own);
        assert!(holder.unwrap().contains(&std::process::id().to_string()));
        drop(listener);
        assert_eq!(taken(&[own]), None);
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
