//! Messages between a worker and the service: doorbell, claim, events, finish.
//!
//! Every write names the claim it was made under, so a worker that lost its claim changes nothing.
//! Records of a run are numbered from 0 by the worker without gaps; that number, not ansible's
//! counter, orders and deduplicates them.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::RunStatus;

/// The most that one request with events may carry, in bytes.
pub const MAX_EVENTS_BYTES: usize = 1024 * 1024;
/// The most events in one request with events.
pub const MAX_BATCH_EVENTS: usize = 10_000;
/// The most distinct hosts that the events of one request may name.
pub const MAX_BATCH_HOSTS: usize = 5_000;
/// The most bytes in a host's name.
pub const MAX_HOST_BYTES: usize = 255;
/// The most that one event may take as JSON, in bytes; workers split longer output.
pub const MAX_EVENT_BYTES: usize = 256 * 1024;
/// Header with the number of the first record in the body.
pub const FIRST_COUNTER_HEADER: &str = "dispatcher-first-counter";
/// Header with the claim that a write is made under.
pub const CLAIM_HEADER: &str = "dispatcher-claim";

/// The longest that a worker may wait for the doorbell in one request, in seconds.
pub const MAX_WAIT_SECONDS: u64 = 30;

/// The most runs that one worker may hold at a time.
pub const MAX_AT_A_TIME: u32 = 32;

/// A worker waits for work or a cancellation.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct WaitRequest {
    /// How long at most; more than [`MAX_WAIT_SECONDS`] counts as that.
    pub wait_seconds: u64,
    /// How many runs it may hold at a time: while it has as many, nothing is work for it. 0 while
    /// it takes nothing.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub at_a_time: u32,
}

/// What a worker of a version before several at a time does not say.
const fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde gives it")]
const fn is_one(number: &u32) -> bool {
    *number == 1
}

/// The answer to a worker that waits for work.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Doorbell {
    /// Whether a claim would yield something now.
    pub work: bool,
    /// Runs of this worker that are to be ended.
    pub cancel: Vec<Uuid>,
}

/// A worker asks for its next run.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ClaimRequest {
    /// Which process asks, for people who look; at most 255 bytes are kept.
    #[serde(default)]
    pub claimed_by: String,
    /// How many runs it may hold at a time, this one included; more than [`MAX_AT_A_TIME`] counts
    /// as that.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub at_a_time: u32,
}

impl Default for ClaimRequest {
    fn default() -> Self {
        Self { claimed_by: String::new(), at_a_time: 1 }
    }
}

/// The answer to a worker that asks for its next run.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ClaimReply {
    /// The run, if there is one.
    pub run: Option<ClaimedRun>,
}

/// A run handed to a worker.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ClaimedRun {
    /// The run.
    pub run_id: Uuid,
    /// Proof of ownership for all later writes.
    pub claim: Uuid,
    /// Which attempt to start it this is, from 1.
    pub attempt: i32,
    /// The correlation id for `executor_on_start`.
    pub correlation_id: Uuid,
    /// What people call it.
    pub name: Option<String>,
    /// Where the playbook is fetched from; signed where the service stores it.
    pub url: String,
    /// When its time is over.
    #[serde(with = "time::serde::rfc3339")]
    pub deadline: OffsetDateTime,
    /// Whether inputs are to be fetched before the start.
    pub has_inputs: bool,
}

/// The answer to a batch of events.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct AppendReply {
    /// The number of the next record the service expects; all below it are durable.
    pub next_counter: u64,
    /// Whether the run is to be ended (or, before its start, not to be started).
    pub cancel: bool,
}

/// Ends a run: everything up to `next_counter` must have been applied.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct FinishRequest {
    /// How many records the run has.
    pub next_counter: u64,
}

/// The answer to a finish.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct FinishReply {
    /// The state the run ended in, also where it was final before.
    pub status: RunStatus,
}

/// The body of a 409 that says which record is expected (`error_code` is `gap`).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct GapProblem {
    /// The same in words.
    pub message: String,
    /// Always `gap`.
    pub error_code: String,
    /// Quote this when asking for help.
    pub request_id: String,
    /// The number of the record the service expects next.
    pub next_counter: u64,
}
