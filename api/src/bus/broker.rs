//! A broker of messages, as the publisher sees it.

use std::sync::Arc;

use async_trait::async_trait;

use crate::events::message::Message;

/// Why a broker does not have a message for certain. Worth trying again.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct BrokerError(
    /// What happened, without secrets.
    pub String,
);

/// A broker that may be there or not.
#[async_trait]
pub trait Broker: Send + Sync {
    /// Opens a line to it, with everything in place that messages need there. Takes a bounded time.
    async fn open(&self) -> Result<Arc<dyn Line>, BrokerError>;
}

/// An open line to a broker. After an error it is to be dropped.
#[async_trait]
pub trait Line: Send + Sync {
    /// Hands a message over and waits until the broker has it for good. Several may be under way.
    /// Takes a bounded time.
    async fn publish(&self, message: &Message) -> Result<(), BrokerError>;

    /// Ends it politely. Takes a bounded time.
    async fn close(&self);
}
