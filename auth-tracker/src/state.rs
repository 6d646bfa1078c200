//! What instances have to know to decide who is calling. Data only: no key here opens anything, since
//! pre-shared keys are kept as keyed digests and SSO keys are public.

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
    /// The keys of the SSO server; empty where there is none.
    pub sso_keys: Vec<SsoKey>,
    /// What tokens have to name as their issuer, as the SSO server's discovery document says;
    /// `None` where no discovery is used, and then nothing is asked of them.
    #[serde(default)]
    pub sso_issuer: Option<String>,
    /// When the SSO server's keys were last fetched successfully.
    #[serde(default, with = "time::serde::rfc3339::option")]
    pub sso_fetched_at: Option<OffsetDateTime>,
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
    /// Its id; `None` for a key that was configured, which counts for every id.
    pub kid: Option<String>,
    /// `RS256`, `RS384`, `RS512`, `PS256`, …, `ES256`, `ES384` or `EdDSA`, decided by the key and
    /// never by a token.
    pub algorithm: String,
    /// SubjectPublicKeyInfo as PEM.
    pub pem: String,
}
