//! A caller, and how it was recognised. Pure.

use time::OffsetDateTime;

use super::principal::{Kind, Principal};

/// How a caller shows who it is (decision 11).
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Way {
    /// A pre-shared key.
    Psk,
    /// A token of the SSO server.
    Bearer,
    /// The identity header of a trusted gateway.
    Identity,
    /// A worker's own key.
    WorkerKey,
    /// A run's upload token.
    UploadToken,
    /// A token to register a worker.
    RegistrationToken,
}

impl Way {
    /// Its name in answers and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Psk => "psk",
            Self::Bearer => "bearer",
            Self::Identity => "identity",
            Self::WorkerKey => "worker_key",
            Self::UploadToken => "upload_token",
            Self::RegistrationToken => "registration_token",
        }
    }
}

/// An authenticated caller and what is known of the proof.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Caller {
    /// Who it is.
    pub principal: Principal,
    /// How it was recognised.
    pub way: Way,
    /// What people call it, where it is not its id.
    pub name: Option<String>,
    /// The id of the key that it has, or that its token was signed with.
    pub key_id: Option<String>,
    /// When the key or token ends.
    pub expires_at: Option<OffsetDateTime>,
}

impl Caller {
    /// Under which kind and id the time of its last authentication is kept. `None`: nobody's, since
    /// the gateway that vouches for it keeps its own.
    #[must_use]
    pub fn noted_as(&self) -> Option<(&'static str, &str)> {
        match self.principal.kind {
            Kind::Service => Some(("service", self.key_id.as_deref()?)),
            Kind::User => Some(("user", &self.principal.id)),
            Kind::Worker => Some(("recipient", &self.principal.id)),
            Kind::Identity => None,
        }
    }
}
