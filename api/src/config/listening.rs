//! Where the service listens: in our words (`LISTEN`, `WEB_PORT`), in DCI's (`API_HOST`) and in
//! gunicorn's (`--bind`).
//!
//! Names are not looked up. Where somebody names a host instead of an address of this one, which
//! is a public name more often than not, every address is listened on, and the start says so.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use super::{
    gunicorn::{Given, Gunicorn},
    source::{Source, Spec},
    values::{ListenAddress, ListenList},
};

const LISTEN: Spec = Spec {
    names: &["LISTEN"],
    about: "Where the service listens, a comma list; without it, WEB_PORT at API_HOST.",
    allowed: "tcp:<address>:<port> and unix:<absolute path>, separated by commas",
    secret: false,
};
const WEB_PORT: Spec = Spec {
    names: &["WEB_PORT", "API_PORT"],
    about: "The port to listen on where LISTEN is not set.",
    allowed: "0 to 65535 (0: any)",
    secret: false,
};
const API_HOST: Spec = Spec {
    names: &["API_HOST"],
    about: "The address to listen on where LISTEN is not set. What is no address of this host (of \
            this container) stands for every address, and the start says so.",
    allowed: "an IP address; a name stands for 0.0.0.0",
    secret: false,
};

/// Every address.
const ANY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
/// Gunicorn's port where none is named.
const DEFAULT_PORT: u16 = 8000;

/// Where to listen; `own` is what the command line decided.
pub fn read(
    source: &mut Source,
    own: Option<SocketAddr>,
    gunicorn: &Gunicorn,
) -> Vec<ListenAddress> {
    if let Some(own) = own {
        return vec![ListenAddress::Tcp(own)];
    }
    let port = source.parsed(&WEB_PORT, DEFAULT_PORT);
    let host = source.text(&API_HOST).map(|text| usable(text.trim()));
    if let Some((_, Some(why))) = &host {
        source.notice(format!("API_HOST: {why}"));
    }
    let at = |ip| ListenList(vec![ListenAddress::Tcp(SocketAddr::new(ip, port))]);
    let named = host.map(|(ip, _)| Given { value: at(ip), origin: "API_HOST".to_owned() });
    let given = gunicorn.bind.as_ref().or(named.as_ref());
    source.given_or(&LISTEN, given, at(ANY)).0
}

/// An address as gunicorn takes it (`host:port`, `:port`, `host`, `unix:path`), and what is to be
/// said where the host is none of this one's. `None`: that is no address.
pub(super) fn bound(text: &str) -> Option<(ListenAddress, Option<String>)> {
    let text = text.trim();
    if text.starts_with("unix:") {
        return Some((text.parse().ok()?, None));
    }
    let (host, port) = match text.rsplit_once(':') {
        // An IPv6 address alone is in brackets.
        Some(_) if text.ends_with(']') => (text, DEFAULT_PORT),
        Some((host, port)) => (host, port.parse().ok()?),
        None => (text, DEFAULT_PORT),
    };
    if text.is_empty() || host.contains('/') {
        return None;
    }
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let (ip, why) = if host.is_empty() { (ANY, None) } else { usable(host) };
    Some((ListenAddress::Tcp(SocketAddr::new(ip, port)), why))
}

/// The address that is meant; otherwise every address, and why.
fn usable(host: &str) -> (IpAddr, Option<String>) {
    let instead = |why: &str| {
        let why = format!("{host} is {why}; listening on every address ({ANY}) instead");
        (ANY, Some(why))
    };
    match host.parse::<IpAddr>() {
        Err(_) => instead("no IP address, and names are not looked up"),
        // A socket that sends nothing tells whether the address is ours.
        Ok(ip) if ip.is_unspecified() || UdpSocket::bind((ip, 0)).is_ok() => (ip, None),
        Ok(_) => instead("no address of this host"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listening(variables: &[(&str, &str)]) -> (String, String, Vec<String>) {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut source = Source::new(variables.iter().map(own).collect());
        let gunicorn = Gunicorn::read(&mut source);
        let list = ListenList(read(&mut source, None, &gunicorn)).to_string();
        let listen = source.effective().iter().find(|one| one.name == "LISTEN").unwrap().clone();
        assert_eq!(listen.value, list);
        let notices = source.notices().to_vec();
        source.finish().unwrap();
        (list, listen.origin, notices)
    }

    #[test]
    fn an_address_of_this_host_counts_and_anything_else_is_every_address() {
        let (list, origin, _) = listening(&[]);
        assert_eq!((list.as_str(), origin.as_str()), ("tcp:0.0.0.0:8000", "default"));
        for (host, expected) in [
            ("127.0.0.1", "tcp:127.0.0.1:5000"),
            (" 0.0.0.0 ", "tcp:0.0.0.0:5000"),
            ("::", "tcp:[::]:5000"),
        ] {
            let (list, origin, notices) = listening(&[("API_HOST", host), ("API_PORT", "5000")]);
            assert_eq!((list.as_str(), origin.as_str()), (expected, "API_HOST"));
            assert!(notices.is_empty(), "{notices:?}");
        }
        // 192.0.2.0/24 is for documentation: nobody has it.
        for host in ["api.example.com", "192.0.2.1", "localhost"] {
            let (list, _, notices) = listening(&[("API_HOST", host)]);
            assert_eq!(list, "tcp:0.0.0.0:8000");
            assert!(notices[0].contains(host), "{notices:?}");
        }
    }

    #[test]
    fn our_own_word_counts_before_gunicorns_and_that_before_dcis() {
        let all = [
            ("API_HOST", "127.0.0.1"),
            ("GUNICORN_CMD_ARGS", "--bind 127.0.0.1:81"),
            ("LISTEN", "tcp:127.0.0.1:82"),
        ];
        for (from, expected) in [(0, "tcp:127.0.0.1:82"), (1, "tcp:127.0.0.1:82")] {
            assert_eq!(listening(&all[from..]).0, expected);
        }
        assert_eq!(listening(&all[..2]).0, "tcp:127.0.0.1:81");
    }

    #[test]
    fn gunicorns_forms_are_understood() {
        for (text, expected) in [
            ("127.0.0.1:80", "tcp:127.0.0.1:80"),
            (":80", "tcp:0.0.0.0:80"),
            ("127.0.0.1", "tcp:127.0.0.1:8000"),
            ("[::]:80", "tcp:[::]:80"),
            ("[::]", "tcp:[::]:8000"),
            ("unix:/run/x.sock", "unix:/run/x.sock"),
        ] {
            assert_eq!(bound(text).unwrap().0.to_string(), expected);
        }
        for bad in ["", "fd://3", "unix:x", "127.0.0.1:http", "127.0.0.1:99999"] {
            assert!(bound(bad).is_none(), "{bad}");
        }
    }
}
