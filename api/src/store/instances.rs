//! The registry of the service's processes.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::StoreResult;
use crate::instances::model::{Instance, KnownInstance, LIVE_WITHIN, Sign};

/// The most processes that are answered at once.
pub(super) const MOST: i64 = 1000;

/// Which processes there are. Their signs of life are kept by the database's clock, so that the
/// clocks of hosts do not matter.
#[async_trait]
pub trait InstanceStore: Send + Sync {
    /// Notes a sign of life, in one statement; the first one registers the process.
    async fn beat(&self, own: &Instance, sign: Sign) -> StoreResult<()>;

    /// Forgets a process that ends.
    async fn remove(&self, id: Uuid) -> StoreResult<()>;

    /// Processes whose last sign is not older, by kind, name and id.
    async fn seen_within(&self, age: Duration) -> StoreResult<Vec<KnownInstance>>;

    /// Processes that count as living.
    async fn live(&self) -> StoreResult<Vec<KnownInstance>> {
        self.seen_within(LIVE_WITHIN).await
    }
}
