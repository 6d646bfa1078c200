//! RBAC: which runs people may look at whom a gateway vouches for.

use std::time::Duration;

use super::{
    outside::{Address, AddressSpecs, Choice, HOSTS, PORTS, SCHEMES, TIMEOUTS},
    source::{Source, Spec},
    values::Seconds,
};

const IMPL: Spec = Spec {
    names: &["RBAC_IMPL"],
    about: "Who says which runs a caller with an identity header may look at; unset: nobody, and \
            all runs of the organisation are shown.",
    allowed: "impl (RBAC), mock (runs of three services, for trials)",
    secret: false,
};
const ADDRESS: AddressSpecs = AddressSpecs {
    scheme: Spec {
        names: &["RBAC_SCHEME"],
        about: "How RBAC is reached.",
        allowed: SCHEMES,
        secret: false,
    },
    host: Spec { names: &["RBAC_HOST"], about: "Where RBAC is.", allowed: HOSTS, secret: false },
    port: Spec { names: &["RBAC_PORT"], about: "The port of RBAC.", allowed: PORTS, secret: false },
    timeout: Spec {
        names: &["RBAC_TIMEOUT"],
        about: "Seconds that a question to RBAC may take.",
        allowed: TIMEOUTS,
        secret: false,
    },
};
const CACHE_TTL: Spec = Spec {
    names: &["RBAC_CACHE_TTL"],
    about: "Seconds for which the answer of RBAC about an identity counts; failures never do. 0: \
            only for requests that come while it is asked.",
    allowed: "0 to 300",
    secret: false,
};
const CACHE_SIZE: Spec = Spec {
    names: &["RBAC_CACHE_SIZE"],
    about: "The most identities whose permissions are remembered.",
    allowed: "2 to 1000000",
    secret: false,
};

/// RBAC.
#[derive(Clone, Debug)]
pub struct RbacSettings {
    /// Who says.
    pub choice: Choice,
    /// Where it is.
    pub address: Address,
    /// How long an answer counts.
    pub cache_ttl: Duration,
    /// How many are remembered.
    pub cache_size: usize,
}

impl RbacSettings {
    /// Reads them.
    pub fn read(source: &mut Source) -> Self {
        let (least, most) = (Seconds(Duration::ZERO), Seconds::whole(300));
        Self {
            choice: Choice::read(source, &IMPL),
            address: Address::read(source, &ADDRESS, "rbac", 8080),
            cache_ttl: source.within(&CACHE_TTL, Seconds::whole(5), least..=most).0,
            cache_size: source.within(&CACHE_SIZE, 10_000, 2..=1_000_000),
        }
    }
}
