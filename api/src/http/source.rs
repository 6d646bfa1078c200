//! Where a request comes from, for the limit on failed attempts: the peer of the connection, or
//! whom a trusted proxy names.

use std::net::IpAddr;

use axum::http::HeaderMap;

use super::peer::Peer;
use crate::config::peers::TrustedPeers;

/// Proxies add whom they were connected by to the end of this header.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Where a request comes from; an extension of every request. `None`: this machine's own socket,
/// where nobody named anybody.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Source(
    /// The address.
    pub Option<IpAddr>,
);

impl Source {
    /// Of a request with these headers on a connection from this peer.
    #[must_use]
    pub fn of(peer: Option<Peer>, headers: &HeaderMap, proxies: &TrustedPeers) -> Self {
        let Some(peer) = peer else { return Self(None) };
        // Only the last hop was added by the proxy itself; whatever is before it anybody may write.
        let last = || {
            let line = headers.get_all(FORWARDED_FOR).iter().next_back()?.to_str().ok()?;
            line.rsplit(',').next()?.trim().parse().ok()
        };
        let named = if peer.is_trusted(proxies) { last() } else { None };
        let own = match peer {
            Peer::Tcp(address) => Some(address.ip()),
            Peer::Unix => None,
        };
        Self(named.or(own))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(peer: Peer, lines: &[&str], proxies: &str) -> Option<String> {
        let lines = lines.iter().map(|line| {
            (FORWARDED_FOR.parse::<axum::http::HeaderName>().unwrap(), line.parse().unwrap())
        });
        let headers: HeaderMap = lines.collect();
        let source = Source::of(Some(peer), &headers, &proxies.parse().unwrap());
        source.0.map(|address| address.to_string())
    }

    #[test]
    fn only_trusted_proxies_name_somebody_else_and_only_their_own_hop_counts() {
        let tcp = Peer::Tcp("127.0.0.1:5".parse().unwrap());
        let named = ["192.0.2.1", "198.51.100.1, 192.0.2.7"];
        assert_eq!(of(tcp, &named, "").as_deref(), Some("127.0.0.1"));
        assert_eq!(of(tcp, &named, "10.0.0.0/8,unix").as_deref(), Some("127.0.0.1"));
        assert_eq!(of(tcp, &named, "loopback").as_deref(), Some("192.0.2.7"));
        assert_eq!(of(tcp, &[], "loopback").as_deref(), Some("127.0.0.1"));
        assert_eq!(of(tcp, &["unknown"], "loopback").as_deref(), Some("127.0.0.1"));
        assert_eq!(of(Peer::Unix, &named, "unix").as_deref(), Some("192.0.2.7"));
        assert_eq!(of(Peer::Unix, &named, "loopback"), None);
        assert_eq!(of(Peer::Unix, &[], "unix"), None);
    }
}
