//! Keys of services. Every change raises the version of the auth state and writes its row of the
//! audit log in its own transaction.

use async_trait::async_trait;
use time::OffsetDateTime;

use super::StoreResult;
use crate::{
    audit::model::AuditEntry,
    keys::model::{KeyMade, KeyQuery, KeyRevoked, NewServiceKey, Replaced, ServiceKey},
    runs::model::Rows,
};

/// Keys of services.
#[async_trait]
pub trait KeyStore: Send + Sync {
    /// Makes a key, and gives the one that it replaces its end, unless
    /// [`crate::keys::model::objection`] stands against it. Two calls at once see each other.
    async fn make(
        &self,
        new: &NewServiceKey,
        replaces: Option<&Replaced>,
        audit: Option<&AuditEntry>,
    ) -> StoreResult<KeyMade>;

    /// Revokes a key; one that is revoked already stays as it is, and nothing is written. `None`:
    /// there is none.
    async fn revoke(
        &self,
        id: &str,
        by: &str,
        at: OffsetDateTime,
        audit: Option<&AuditEntry>,
    ) -> StoreResult<Option<KeyRevoked>>;

    /// One key.
    async fn find(&self, id: &str) -> StoreResult<Option<ServiceKey>>;

    /// A page of keys.
    async fn list(&self, query: &KeyQuery) -> StoreResult<Rows<ServiceKey>>;

    /// The version of the auth state.
    async fn version(&self) -> StoreResult<u64>;

    /// The version and every live key with its digest, of one moment.
    async fn live(&self, now: OffsetDateTime) -> StoreResult<(u64, Vec<(ServiceKey, Vec<u8>)>)>;
}
