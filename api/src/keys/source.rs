//! The keys of the database as the auth state takes them in (decision 12).

use std::sync::Arc;

use async_trait::async_trait;
use auth_tracker::{
    ports::{KeySource, PortError},
    state,
};
use time::OffsetDateTime;

use super::model::ServiceKey;
use crate::{
    keyring::hex,
    store::{KeyStore, StoreError},
};

/// The keys of the database.
#[derive(Clone)]
pub struct DatabaseKeys(
    /// Where they are.
    pub Arc<dyn KeyStore>,
);

#[async_trait]
impl KeySource for DatabaseKeys {
    async fn version(&self) -> Result<u64, PortError> {
        self.0.version().await.map_err(|error| told(&error))
    }

    async fn keys(&self, now: OffsetDateTime) -> Result<(u64, Vec<state::ServiceKey>), PortError> {
        let (version, keys) = self.0.live(now).await.map_err(|error| told(&error))?;
        Ok((version, keys.into_iter().map(|(key, digest)| held(key, &digest)).collect()))
    }
}

fn held(key: ServiceKey, digest: &[u8]) -> state::ServiceKey {
    state::ServiceKey {
        id: key.id,
        service: key.service,
        org_id: key.org_id,
        role: key.role.as_str().to_owned(),
        digest: hex(digest),
        expires_at: key.expires_at,
    }
}

fn told(error: &StoreError) -> PortError {
    PortError(error.to_string())
}
