//! What instances over one database tell each other at once: hints, see [`crate::bus`]. Lost ones
//! are nobody's loss.

use async_trait::async_trait;

use super::StoreResult;

/// A way to all processes over one database. Only a database that several processes share has one.
#[async_trait]
pub trait WakeupStore: Send + Sync {
    /// Says something to everybody who listens, this process included. Outside of any transaction
    /// that matters; at most [`crate::bus::message::MAX_BYTES`].
    async fn notify(&self, message: &str) -> StoreResult<()>;

    /// Listens from now on, on a connection of its own, which ends when the ear is dropped.
    async fn listen(&self) -> StoreResult<Box<dyn Ear>>;
}

/// Somebody who listens.
#[async_trait]
pub trait Ear: Send {
    /// The next message.
    ///
    /// # Errors
    /// When the connection has ended: nothing is heard any more.
    async fn next(&mut self) -> StoreResult<String>;
}
