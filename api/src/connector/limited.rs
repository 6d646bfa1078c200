//! A connector whose messages are limited (contract §1.14): each waits for its turn, without a limit
//! on waiting.

use async_trait::async_trait;
use uuid::Uuid;

use super::{Connector, SendError, limiter::Limiter};
use crate::runs::model::{NewRun, RunRow};

/// A connector that takes a token for every message.
#[derive(Debug)]
pub struct Limited<C> {
    inner: C,
    limiter: Limiter,
}

impl<C> Limited<C> {
    /// Limits this one.
    pub const fn new(inner: C, limiter: Limiter) -> Self {
        Self { inner, limiter }
    }
}

#[async_trait]
impl<C: Connector> Connector for Limited<C> {
    async fn send(&self, run: &NewRun) -> Result<(), SendError> {
        self.limiter.turn().await;
        self.inner.send(run).await
    }

    async fn cancel(&self, run: &RunRow, principal: &str) -> Result<(), SendError> {
        self.limiter.turn().await;
        self.inner.cancel(run, principal).await
    }

    async fn is_connected(&self, org_id: &str, recipient: Uuid) -> Result<bool, SendError> {
        self.limiter.turn().await;
        self.inner.is_connected(org_id, recipient).await
    }

    async fn is_connected_at_once(&self, org_id: &str, recipient: Uuid) -> Result<bool, SendError> {
        self.inner.is_connected(org_id, recipient).await
    }
}
