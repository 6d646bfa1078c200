//! Where accounts are translated into organisations: nowhere unless asked for.

use super::{
    outside::{Address, AddressSpecs, HOSTS, PORTS, SCHEMES, TIMEOUTS},
    source::{Source, Spec},
};

const IMPL: Spec = Spec {
    names: &["TENANT_TRANSLATOR_IMPL"],
    about: "Who knows the organisations of accounts, for POST /internal/dispatch; unset: nobody, and \
            no account is known.",
    allowed: "impl (the tenant translator), dynamic-mock (makes them up, for trials), mock (knows six, \
              for trials)",
    secret: false,
};
const ADDRESS: AddressSpecs = AddressSpecs {
    scheme: Spec {
        names: &["TENANT_TRANSLATOR_SCHEME"],
        about: "How the tenant translator is called.",
        allowed: SCHEMES,
        secret: false,
    },
    host: Spec {
        names: &["TENANT_TRANSLATOR_HOST"],
        about: "Where the tenant translator is.",
        allowed: HOSTS,
        secret: false,
    },
    port: Spec {
        names: &["TENANT_TRANSLATOR_PORT"],
        about: "The port of the tenant translator.",
        allowed: PORTS,
        secret: false,
    },
    timeout: Spec {
        names: &["TENANT_TRANSLATOR_TIMEOUT"],
        about: "Seconds that one call of the tenant translator may take.",
        allowed: TIMEOUTS,
        secret: false,
    },
};

/// Who knows the organisations of accounts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TenantsImpl {
    /// Nobody.
    Off,
    /// The tenant translator.
    Http,
    /// The mock that makes them up.
    DynamicMock,
    /// The mock that knows a few.
    FixedMock,
}

/// Where accounts are translated.
#[derive(Clone, Debug)]
pub struct TenantSettings {
    /// By whom.
    pub implementation: TenantsImpl,
    /// Where the tenant translator is.
    pub address: Address,
}

impl TenantSettings {
    /// Reads them.
    pub fn read(source: &mut Source) -> Self {
        let implementation = match source.text(&IMPL).as_deref() {
            None => TenantsImpl::Off,
            Some("impl") => TenantsImpl::Http,
            Some("dynamic-mock") => TenantsImpl::DynamicMock,
            Some("mock") => TenantsImpl::FixedMock,
            Some(other) => {
                source.reject(&IMPL, other);
                TenantsImpl::Off
            }
        };
        Self { implementation, address: Address::read(source, &ADDRESS, "localhost", 8892) }
    }
}
