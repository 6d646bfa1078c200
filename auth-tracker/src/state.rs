//! What instances have to know to decide who is calling. Data only: no key here opens anything, since
//! pre-shared keys are kept as keyed digests and SSO keys are public.

use jsonwebtoken::{Algorithm, DecodingKey};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// Everything at one moment.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct AuthState {
    /// The version of the database's side of it: grows with every change of a key, in the
    /// transaction that makes the change.
    pub auth_version: u64,
    /// The live keys of services, by id. Expired ones may be among them; whoever checks looks at
    /// [`ServiceKey::expires_at`].
    pub service_keys: Vec<ServiceKey>,
    /// When the database last confirmed them.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub keys_confirmed_at: Option<OffsetDateTime>,
    /// The keys of the SSO server; empty where there is none.
    pub sso_keys: Vec<SsoKey>,
    /// What `iss` of a token may be: one, unless a configured key is in use and the path style of
    /// the server is not known.
    #[serde(default)]
    pub sso_issuers: Vec<String>,
    /// When the SSO server's keys were last fetched successfully; `None` as long as they never
    /// were, and where only a configured key is in use.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub sso_fetched_at: Option<OffsetDateTime>,
}

impl AuthState {
    /// Whether both let the same callers in: equal but for the times of confirmation.
    #[must_use]
    pub fn same_keys(&self, other: &Self) -> bool {
        let Self { auth_version, service_keys, sso_keys, sso_issuers, .. } = self;
        *auth_version == other.auth_version
            && *service_keys == other.service_keys
            && *sso_keys == other.sso_keys
            && *sso_issuers == other.sso_issuers
    }

    /// Whether a token that names this key can be checked.
    #[must_use]
    pub fn knows(&self, kid: &str) -> bool {
        self.sso_keys.iter().any(|key| key.kid.as_deref() == Some(kid))
    }
}

/// A pre-shared key of a service, as a digest.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ServiceKey {
    /// Its id, for people and logs; `env:<service>` for one that comes from a setting.
    pub id: String,
    /// The service it belongs to.
    pub service: String,
    /// The only organisation it may act for; `None`: every one.
    pub org_id: Option<String>,
    /// `reader`, `operator` or `admin`.
    pub role: String,
    /// Lower-case hexadecimal HMAC-SHA256 of the whole key, under the making secret of the time.
    pub digest: String,
    /// From then on it is nobody's key.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
}

/// A public key of the SSO server, and the one algorithm it is used with.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct SsoKey {
    /// Its id; `None` for a key that was configured, or was published without one: it counts for
    /// every id.
    pub kid: Option<String>,
    /// `RS256`, `RS384`, `RS512`, `PS256`, …, `ES256`, `ES384` or `EdDSA`, decided by the key and
    /// never by a token.
    pub algorithm: Algorithm,
    /// The key itself.
    pub public: PublicKey,
}

/// The public parts of a key, as base64url without padding where they come from a key set.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum PublicKey {
    /// RSA.
    Rsa {
        /// The modulus.
        n: String,
        /// The exponent.
        e: String,
    },
    /// A point on P-256 or P-384.
    Ec {
        /// One coordinate.
        x: String,
        /// The other.
        y: String,
    },
    /// Ed25519.
    Ed {
        /// The key.
        x: String,
    },
    /// RSA, as PEM.
    Pem {
        /// The text.
        pem: String,
    },
}

impl SsoKey {
    /// What checks signatures. Made once per state, not per token.
    ///
    /// # Errors
    /// When the key is not one. Keys in an [`AuthState`] were all tried when they were gathered.
    pub fn decoding_key(&self) -> Result<DecodingKey, jsonwebtoken::errors::Error> {
        match &self.public {
            PublicKey::Rsa { n, e } => DecodingKey::from_rsa_components(n, e),
            PublicKey::Ec { x, y } => DecodingKey::from_ec_components(x, y),
            PublicKey::Ed { x } => DecodingKey::from_ed_components(x),
            PublicKey::Pem { pem } => DecodingKey::from_rsa_pem(pem.as_bytes()),
        }
    }
}
