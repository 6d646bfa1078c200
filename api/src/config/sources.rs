//! Sources: which client connects a Satellite.

use super::{
    outside::{Address, AddressSpecs, Choice, HOSTS, PORTS, SCHEMES, TIMEOUTS},
    source::{Source, Spec},
};

const IMPL: Spec = Spec {
    names: &["SOURCES_IMPL"],
    about: "Who says which client connects a Satellite, for connection_status; unset: nobody, and \
            it is answered with 503.",
    allowed: "impl (Sources), mock (one client for all, for trials)",
    secret: false,
};
const ADDRESS: AddressSpecs = AddressSpecs {
    scheme: Spec {
        names: &["SOURCES_SCHEME"],
        about: "How Sources is reached.",
        allowed: SCHEMES,
        secret: false,
    },
    host: Spec {
        names: &["SOURCES_HOST"],
        about: "Where Sources is.",
        allowed: HOSTS,
        secret: false,
    },
    port: Spec {
        names: &["SOURCES_PORT"],
        about: "The port of Sources.",
        allowed: PORTS,
        secret: false,
    },
    timeout: Spec {
        names: &["SOURCES_TIMEOUT"],
        about: "Seconds that a question to Sources may take.",
        allowed: TIMEOUTS,
        secret: false,
    },
};

/// Sources.
#[derive(Clone, Debug)]
pub struct SourcesSettings {
    /// Who says.
    pub choice: Choice,
    /// Where it is.
    pub address: Address,
}

impl SourcesSettings {
    /// Reads them.
    pub fn read(source: &mut Source) -> Self {
        Self {
            choice: Choice::read(source, &IMPL),
            address: Address::read(source, &ADDRESS, "sources", 8080),
        }
    }
}
