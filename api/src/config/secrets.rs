//! The shared secret keys and the keys of services. Values never leave this type by `Debug`.

use secrecy::{ExposeSecret as _, SecretString};

use super::{
    Form,
    source::{Source, Spec},
};

const SECRET_KEYS: Spec = Spec {
    names: &["DISPATCHER_SECRET_KEYS"],
    about: "The secrets that all instances share; the first makes, all check.",
    allowed: "<key id>:<base64 of 32 bytes or more>, separated by commas",
    secret: true,
};
const SERVICE_KEYS: Spec = Spec {
    names: &["PSK_AUTH_<NAME>"],
    about: "The pre-shared key of the service <name> (in lower case), which may dispatch for every \
            organisation.",
    allowed: "letters and digits; a key of its own for each service",
    secret: true,
};
/// What the variables with keys of services begin with.
const PSK_PREFIX: &str = "PSK_AUTH_";

/// The key of a service.
#[derive(Clone, Debug)]
pub struct ServiceKey {
    /// The service's name: what follows the prefix, in lower case.
    pub service: String,
    /// The key.
    pub key: SecretString,
    /// The only organisation it may act for; `None`: every one.
    pub org_id: Option<String>,
}

impl ServiceKey {
    /// Whether the header's form can carry it at all: letters and digits.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.key.expose_secret().bytes().all(|byte| byte.is_ascii_alphanumeric())
    }
}

/// Every secret of the settings.
#[derive(Clone, Debug)]
pub struct SecretSettings {
    /// Unparsed.
    pub secret_keys: Option<SecretString>,
    /// By name.
    pub services: Vec<ServiceKey>,
}

impl SecretSettings {
    /// Reads them. Standalone makes its own where none are given.
    pub fn read(source: &mut Source, form: Form) -> Self {
        let secret_keys = source.text(&SECRET_KEYS).map(SecretString::from);
        if secret_keys.is_none() && form == Form::Serve {
            source.error(
                "DISPATCHER_SECRET_KEYS is required: <key id>:<base64 of 32 random bytes>, \
                 the same on every instance",
            );
        }
        let services = source.family(&SERVICE_KEYS, PSK_PREFIX);
        Self { secret_keys, services: services.into_iter().map(service_key).collect() }
    }
}

fn service_key((name, key): (String, String)) -> ServiceKey {
    ServiceKey { service: name.to_lowercase(), key: key.into(), org_id: None }
}
