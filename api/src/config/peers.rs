//! Whose identity header is believed: networks, the unix socket, the machine itself.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;

/// The peers that may speak for others with `x-rh-identity`; by default nobody.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TrustedPeers {
    /// Everybody who can connect to a unix socket of ours.
    pub unix: bool,
    loopback: bool,
    networks: Vec<IpNet>,
}

impl TrustedPeers {
    /// Whether a peer at this address is believed.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let loopback = self.loopback && address.is_loopback();
        loopback || self.networks.iter().any(|network| network.contains(&address))
    }
}

impl FromStr for TrustedPeers {
    type Err = ();

    fn from_str(list: &str) -> Result<Self, ()> {
        let mut peers = Self::default();
        for entry in list.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
            match entry {
                "unix" => peers.unix = true,
                "loopback" => peers.loopback = true,
                address => peers.networks.push(network(address).ok_or(())?),
            }
        }
        Ok(peers)
    }
}

impl fmt::Display for TrustedPeers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [(self.unix, "unix"), (self.loopback, "loopback")];
        let words = words.iter().filter(|(on, _)| *on).map(|(_, word)| (*word).to_owned());
        let all: Vec<String> = words.chain(self.networks.iter().map(IpNet::to_string)).collect();
        f.write_str(&all.join(","))
    }
}

fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_believed_unless_named() {
        let nobody = TrustedPeers::default();
        assert!(!nobody.contains("127.0.0.1".parse().unwrap()) && !nobody.unix);
        let some: TrustedPeers = "unix, loopback,10.1.0.0/16,fd00::1".parse().unwrap();
        assert_eq!(some.to_string(), "unix,loopback,10.1.0.0/16,fd00::1/128");
        for trusted in ["127.9.9.9", "::1", "::ffff:127.0.0.1", "10.1.2.3", "fd00::1"] {
            assert!(some.contains(trusted.parse().unwrap()), "{trusted}");
        }
        for other in ["10.2.0.1", "fd00::2", "192.168.0.1"] {
            assert!(!some.contains(other.parse().unwrap()), "{other}");
        }
        assert!("10.1.0.0/33".parse::<TrustedPeers>().is_err());
        assert!("localhost".parse::<TrustedPeers>().is_err());
    }
}
