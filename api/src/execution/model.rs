//! The types of work: what a worker may do with a run it has claimed. No IO.
//!
//! A run's work is `Pending` until a worker claims it, `Claimed` until the worker has reported
//! `executor_on_start` (record 0), `Started` from then on, and `Done` when the run is final.
//! Only pending work, and claimed work whose lease is over, can be claimed; started work never is
//! claimed again, which is what makes an execution at most once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use dispatcher_wire::RunStatus;

/// How far the work on a run has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WorkState {
    /// Nobody has taken it.
    Pending,
    /// A worker holds it and has not started it.
    Claimed,
    /// A worker has started it; it is never handed out again.
    Started,
    /// The run is final.
    Done,
}

impl WorkState {
    /// The value in the database.
    #[must_use]
    pub const fn code(self) -> i16 {
        match self {
            Self::Pending => 0,
            Self::Claimed => 1,
            Self::Started => 2,
            Self::Done => 3,
        }
    }

    /// The state of that value; unknown values count as done, so they are never executed.
    #[must_use]
    pub const fn from_code(code: i16) -> Self {
        match code {
            0 => Self::Pending,
            1 => Self::Claimed,
            2 => Self::Started,
            _ => Self::Done,
        }
    }
}

/// How often a claim may be handed out before the run is given up as failed.
pub const MAX_CLAIM_ATTEMPTS: i32 = 5;

/// A worker asks for work.
#[derive(Clone, Debug)]
pub struct ClaimRequest {
    /// Its recipient.
    pub recipient: Uuid,
    /// Which process asks, for people who look at the table.
    pub claimed_by: String,
    /// The proof it will own; fresh for each request and each run.
    pub claim: Uuid,
    /// Now.
    pub now: OffsetDateTime,
    /// Until when the claim is its own without a sign of life.
    pub lease_until: OffsetDateTime,
}

/// Work that was claimed. One playbook per recipient at a time, so a claim yields at most one.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedWork {
    /// The run.
    pub run_id: Uuid,
    /// Its organisation.
    pub org_id: String,
    /// The proof for all later writes.
    pub claim: Uuid,
    /// From 1.
    pub attempt: i32,
    /// For `executor_on_start`.
    pub correlation_id: Uuid,
    /// What people call it.
    pub name: Option<String>,
    /// Unsigned.
    pub url: String,
    /// When its time is over.
    pub deadline: OffsetDateTime,
    /// Whether there are inputs or secrets.
    pub has_inputs: bool,
}

/// The inputs of a run as stored.
#[derive(Clone, Debug, Default)]
pub struct StoredInputs {
    /// Without secrets.
    pub inputs: Option<serde_json::Value>,
    /// Sealed.
    pub sealed_secrets: Option<Vec<u8>>,
}

/// A batch of records, reduced to what is stored. Pure logic has made it from events.
#[derive(Clone, Debug)]
pub struct AppendBatch {
    /// Number of the first record in the batch.
    pub first_counter: u64,
    /// Per record, in order: where its output ends in `output`. The store skips the records (and
    /// their output) that it has already.
    pub output_ends: Vec<usize>,
    /// The output of all records, one after the other.
    pub output: Vec<u8>,
    /// Hosts named by the records, sorted, distinct.
    pub hosts: Vec<String>,
    /// What the records say about the outcome, to be merged into what is known.
    pub outcome: OutcomeSoFar,
    /// The new end of the lease.
    pub lease_until: OffsetDateTime,
    /// Now.
    pub now: OffsetDateTime,
}

/// What is known about the outcome while a run goes on; stored as JSON beside the work.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct OutcomeSoFar {
    /// From `playbook_on_stats`: every host, and whether it failed or was unreachable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<BTreeMap<String, bool>>,
    /// From `executor_on_failed`: code and details.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<(String, String)>,
}

/// What an append came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AppendOutcome {
    /// Durable up to `next_counter`.
    Applied {
        /// The next record expected.
        next_counter: u64,
        /// Whether the run is to be ended: canceled, expired, or already final.
        cancel: bool,
    },
    /// The batch starts beyond what is expected; nothing was changed.
    Gap {
        /// The next record expected.
        next_counter: u64,
    },
    /// The claim is not (or no longer) the run's; nothing was changed.
    NotYours,
}

/// Ends a run under a claim.
#[derive(Clone, Debug)]
pub struct Finish {
    /// How many records the run must have.
    pub next_counter: u64,
    /// The most that is copied into each host's log (head, marker, tail), in bytes.
    pub host_log_cap: usize,
    /// Now.
    pub now: OffsetDateTime,
}

/// What a finish came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FinishOutcome {
    /// The run is in this state now (also where it was final before: a repeated finish).
    Final(RunStatus),
    /// Records are missing; nothing was changed.
    Gap {
        /// The next record expected.
        next_counter: u64,
    },
    /// The claim is not (or no longer) the run's; nothing was changed.
    NotYours,
}
