//! What a worker needs from the service: where its runs come from, and where their events go.
//!
//! Implemented inside the service by its own logic, and over HTTPS by the agent. Every call may be
//! repeated after an error; none may be assumed to have failed.

use std::time::Duration;

use async_trait::async_trait;
use dispatcher_wire::{
    RunStatus,
    event::RunnerEvent,
    execution::{AppendReply, ClaimedRun, Doorbell},
    inputs::RunInputs,
};
use uuid::Uuid;

/// Why the service did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// It cannot be reached, or cannot answer now: try again later.
    #[error("the dispatcher is unavailable: {0}")]
    Unavailable(String),
    /// It does not know this worker's key: only a person can help, see there.
    #[error("the dispatcher does not accept this worker's key; register it again: {0}")]
    KeyRefused(String),
    /// The claim is not (or no longer) ours: end the run, report nothing more.
    #[error("the claim on the run is not ours any more")]
    NotYours,
    /// The service expects this record next; send from there.
    #[error("the dispatcher expects record {0} next")]
    Gap(u64),
    /// It refused for good: a bug or a mismatch of versions, not worth repeating.
    #[error("the dispatcher refused: {0}")]
    Refused(String),
}

/// Where runs come from.
#[async_trait]
pub trait RunSource: Send + Sync {
    /// Waits for work or a cancellation, at most this long. Waiting is presence.
    /// Nothing is work while so many runs are held (0: never).
    async fn wait(&self, at_most: Duration, at_a_time: u32) -> Result<Doorbell, LinkError>;

    /// Claims the next run, if there is one for this recipient and it holds fewer than so many.
    async fn claim(&self, at_a_time: u32) -> Result<Option<ClaimedRun>, LinkError>;

    /// The inputs of a claimed run, secrets opened.
    async fn inputs(&self, run_id: Uuid, claim: Uuid) -> Result<RunInputs, LinkError>;
}

/// Where the events of runs go.
#[async_trait]
pub trait EventSink: Send + Sync {
    /// Makes records durable, the first of which has this number; renews the claim's lease. An
    /// empty batch only renews (a gap error tells what is expected).
    async fn append(
        &self,
        run_id: Uuid,
        claim: Uuid,
        first_counter: u64,
        events: &[RunnerEvent],
    ) -> Result<AppendReply, LinkError>;

    /// Ends the run, which has this many records; answers with the state it ended in.
    async fn finish(
        &self,
        run_id: Uuid,
        claim: Uuid,
        next_counter: u64,
    ) -> Result<RunStatus, LinkError>;
}
