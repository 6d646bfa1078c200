//! Connectors that carry runs to recipients which are not our workers.

pub mod cloud_connector;
pub mod limited;
pub mod limiter;
pub mod message;
pub mod mock;

use async_trait::async_trait;
use uuid::Uuid;

use crate::runs::model::{NewRun, RunRow};

/// What became of a message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SendError {
    /// The recipient is unknown or not connected; the message was certainly not delivered.
    NotConnected,
    /// Certainly not delivered for another reason.
    Refused(String),
    /// Nobody knows whether it was delivered.
    Ambiguous(String),
}

/// A way to recipients that are not our workers.
#[async_trait]
pub trait Connector: Send + Sync {
    /// Sends a new run; an answer means that the recipient has accepted it.
    async fn send(&self, run: &NewRun) -> Result<(), SendError>;

    /// Asks to cancel a run on behalf of a principal.
    async fn cancel(&self, run: &RunRow, principal: &str) -> Result<(), SendError>;

    /// Whether the recipient is connected.
    async fn is_connected(&self, org_id: &str, recipient: Uuid) -> Result<bool, SendError>;

    /// The same, for questions that no limit on messages is about.
    async fn is_connected_at_once(&self, org_id: &str, recipient: Uuid) -> Result<bool, SendError> {
        self.is_connected(org_id, recipient).await
    }
}
