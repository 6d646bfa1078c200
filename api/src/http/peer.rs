//! Who is on the other end of a connection.

use std::net::SocketAddr;

use crate::config::peers::TrustedPeers;

/// The other end of a connection; an extension of every request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Peer {
    /// A TCP connection from there.
    Tcp(SocketAddr),
    /// A connection to a unix socket.
    Unix,
}

impl Peer {
    /// Whether its identity header is believed.
    #[must_use]
    pub fn is_trusted(self, trusted: &TrustedPeers) -> bool {
        match self {
            Self::Tcp(address) => trusted.contains(address.ip()),
            Self::Unix => trusted.unix,
        }
    }
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix => f.write_str("unix"),
        }
    }
}
