//! The way to foreign hosts: off unless asked for.

use secrecy::SecretString;

use super::{
    outside::{Address, AddressSpecs, HOSTS, PORTS, SCHEMES, TIMEOUTS},
    source::{Source, Spec},
};

const IMPL: Spec = Spec {
    names: &["CLOUD_CONNECTOR_IMPL"],
    about: "How foreign hosts and Satellites are reached; unset: not at all.",
    allowed: "impl (over Cloud Connector), mock (accepts and delivers nothing, for trials)",
    secret: false,
};
const ADDRESS: AddressSpecs = AddressSpecs {
    scheme: Spec {
        names: &["CLOUD_CONNECTOR_SCHEME"],
        about: "How Cloud Connector is called.",
        allowed: SCHEMES,
        secret: false,
    },
    host: Spec {
        names: &["CLOUD_CONNECTOR_HOST"],
        about: "Where Cloud Connector is.",
        allowed: HOSTS,
        secret: false,
    },
    port: Spec {
        names: &["CLOUD_CONNECTOR_PORT"],
        about: "The port of Cloud Connector.",
        allowed: PORTS,
        secret: false,
    },
    timeout: Spec {
        names: &["CLOUD_CONNECTOR_TIMEOUT"],
        about: "Seconds that one call of Cloud Connector may take. A message that is not answered \
                by then may have been delivered.",
        allowed: TIMEOUTS,
        secret: false,
    },
};
const CLIENT_ID: Spec = Spec {
    names: &["CLOUD_CONNECTOR_CLIENT_ID"],
    about: "What this service is called by Cloud Connector.",
    allowed: "visible ASCII characters",
    secret: false,
};
const PSK: Spec = Spec {
    names: &["CLOUD_CONNECTOR_PSK"],
    about: "The key by which Cloud Connector knows this service.",
    allowed: "visible ASCII characters",
    secret: true,
};
const RPS: Spec = Spec {
    names: &["CLOUD_CONNECTOR_RPS"],
    about: "The most messages a second to Cloud Connector, on average; of all instances together \
            where they share a Redis (REDIS_URL), else of each.",
    allowed: "1 to 100000",
    secret: false,
};
const BUCKET: Spec = Spec {
    names: &["CLOUD_CONNECTOR_REQ_BUCKET"],
    about: "The most messages to Cloud Connector at once, likewise.",
    allowed: "1 to 100000",
    secret: false,
};

/// How foreign hosts are reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConnectorImpl {
    /// Not at all.
    Off,
    /// By the mock, which delivers nothing.
    Mock,
    /// Over Cloud Connector.
    Http,
}

/// The way to foreign hosts.
#[derive(Clone, Debug)]
pub struct ConnectorSettings {
    /// How they are reached.
    pub implementation: ConnectorImpl,
    /// Where Cloud Connector is.
    pub address: Address,
    /// What this service is called there.
    pub client_id: String,
    /// The key that goes with it; may be empty.
    pub psk: SecretString,
    /// Messages a second.
    pub per_second: u32,
    /// Messages at once.
    pub burst: u32,
}

impl ConnectorSettings {
    /// Reads them.
    pub fn read(source: &mut Source) -> Self {
        let implementation = match source.text(&IMPL).as_deref() {
            Some("mock") => ConnectorImpl::Mock,
            Some("impl") => ConnectorImpl::Http,
            Some(other) => {
                source.reject(&IMPL, other);
                ConnectorImpl::Off
            }
            None => ConnectorImpl::Off,
        };
        let client_id = source.parsed(&CLIENT_ID, "playbook-dispatcher".to_owned());
        let psk = source.text(&PSK).unwrap_or_default();
        for (spec, value) in [(&CLIENT_ID, &client_id), (&PSK, &psk)] {
            if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
                source.reject(spec, value);
            }
        }
        Self {
            implementation,
            address: Address::read(source, &ADDRESS, "cloud-connector", 8080),
            client_id,
            psk: psk.into(),
            per_second: source.within(&RPS, 100, 1..=100_000),
            burst: source.within(&BUCKET, 60, 1..=100_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<ConnectorSettings, String> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut source = Source::new(variables.iter().map(own).collect::<BTreeMap<_, _>>());
        let settings = ConnectorSettings::read(&mut source);
        source.finish().map(|_| settings).map_err(|error| error.to_string())
    }

    #[test]
    fn it_is_off_and_has_the_originals_defaults() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.implementation, ConnectorImpl::Off);
        assert_eq!(settings.address.base, "http://cloud-connector:8080");
        assert_eq!(settings.address.timeout.as_secs(), 10);
        assert_eq!(settings.client_id, "playbook-dispatcher");
        assert_eq!((settings.per_second, settings.burst), (100, 60));
        assert_eq!(
            read(&[("CLOUD_CONNECTOR_IMPL", "impl")]).unwrap().implementation,
            ConnectorImpl::Http
        );
    }

    #[test]
    fn what_is_wrong_is_named_and_the_key_is_not_shown() {
        let error = read(&[
            ("CLOUD_CONNECTOR_IMPL", "real"),
            ("CLOUD_CONNECTOR_PSK", "hunter 2"),
            ("CLOUD_CONNECTOR_SCHEME", "ftp"),
            ("CLOUD_CONNECTOR_TIMEOUT", "0"),
        ]);
        let error = error.unwrap_err();
        for name in ["IMPL=real", "PSK=***", "SCHEME=ftp", "TIMEOUT=0"] {
            assert!(error.contains(&format!("CLOUD_CONNECTOR_{name}")), "{error}");
        }
        assert!(!error.contains("hunter"), "{error}");
    }
}
