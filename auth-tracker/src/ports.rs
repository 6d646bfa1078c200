//! What the auth state needs from elsewhere: the database, and the secrets that all instances share.
//! The service implements these; this crate only uses them.

use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::state::ServiceKey;

/// Why something that was asked of a port was not done. Worth trying again.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct PortError(
    /// What happened, for logs.
    pub String,
);

/// The keys of services, as the database knows them.
#[async_trait]
pub trait KeySource: Send + Sync {
    /// Only the version, which tells whether [`KeySource::keys`] would say anything new.
    async fn version(&self) -> Result<u64, PortError>;

    /// The version and every key that is not revoked and not expired, of one moment.
    async fn keys(&self, now: OffsetDateTime) -> Result<(u64, Vec<ServiceKey>), PortError>;
}

/// A right that one process at a time has, on the database's clock (decision 5).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lease {
    /// Grows with every change of the holder; writes of an earlier holder are refused by it.
    pub epoch: i64,
}

/// Leases by name.
#[async_trait]
pub trait Leases: Send + Sync {
    /// Takes or renews the lease for `ttl` from now on the database's clock. `None`: another holder
    /// has it. Renewing keeps the epoch; taking it from an expired holder increments it.
    async fn hold(
        &self,
        name: &str,
        holder: Uuid,
        holder_name: &str,
        ttl: Duration,
    ) -> Result<Option<Lease>, PortError>;

    /// Gives it back, so that another may take it at once. Not the holder: nothing happens.
    async fn release(&self, name: &str, holder: Uuid) -> Result<(), PortError>;
}

/// When somebody was last authenticated.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct LastAuth {
    /// `user`, `service` or `recipient`.
    pub kind: String,
    /// Who: the subject, the id of the key, or the recipient.
    pub id: String,
    /// When, in whole seconds.
    pub at: OffsetDateTime,
}

/// Where last-authentication times are kept for good.
#[async_trait]
pub trait LastAuthSink: Send + Sync {
    /// Notes them in one transaction; none moves backwards.
    async fn note(&self, times: &[LastAuth]) -> Result<(), PortError>;
}

/// The secrets that all instances share, as far as the snapshot needs them.
pub trait Seal: Send + Sync {
    /// The tag of a message, under the making secret.
    fn tag(&self, message: &[u8]) -> String;

    /// Whether a tag belongs to a message, under any secret.
    fn check(&self, message: &[u8], tag: &str) -> bool;
}
