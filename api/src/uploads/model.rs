//! The types of uploads: archives of job events that foreign hosts send back. No IO.

use std::sync::Arc;

use dispatcher_wire::{RunStatus, event::RunnerEvent};
use time::OffsetDateTime;
use uuid::Uuid;

use super::satellite::SatelliteUpdate;

/// How often applying an upload is tried before it is set aside as poisoned.
pub const MAX_APPLY_ATTEMPTS: i32 = 5;

/// What became of an upload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UploadState {
    /// Durable, not applied yet.
    Pending,
    /// Applied (also where no run matched: the reason says so).
    Applied,
    /// Its content is not acceptable; kept, with the reason.
    Invalid,
    /// Given up after [`MAX_APPLY_ATTEMPTS`]; kept, with the last reason.
    Poisoned,
}

impl UploadState {
    /// The name on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Applied => "applied",
            Self::Invalid => "invalid",
            Self::Poisoned => "poisoned",
        }
    }

    /// The state of that name, if there is one.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Pending, Self::Applied, Self::Invalid, Self::Poisoned]
            .into_iter()
            .find(|state| state.as_str() == name)
    }
}

/// A row of the inbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Upload {
    /// Its request id; also the name of its object.
    pub id: Uuid,
    /// The organisation it was received for.
    pub org_id: String,
    /// The run its token is bound to; `None` when received without a token, by identity.
    pub run_id: Option<Uuid>,
    /// Key in the object store.
    pub object: String,
    /// Bytes received (compressed as sent).
    pub size: i64,
    /// What became of it.
    pub state: UploadState,
    /// Why it was not applied.
    pub reason: Option<String>,
    /// How often it was claimed.
    pub attempt: i32,
    /// When it was received.
    pub created_at: OffsetDateTime,
}

/// An upload claimed for applying.
#[derive(Clone, Debug)]
pub struct ClaimedUpload {
    /// The upload.
    pub upload: Upload,
    /// Proof for all later writes.
    pub claim: Uuid,
}

/// What a valid upload says.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// That of a host itself.
    Runner(RunnerUpdate),
    /// That of a Satellite, about hosts behind it.
    Satellite(SatelliteUpdate),
}

impl Update {
    /// The correlation id of the run it is about.
    #[must_use]
    pub const fn correlation_id(&self) -> Uuid {
        match self {
            Self::Runner(update) => update.correlation_id,
            Self::Satellite(update) => update.correlation_id,
        }
    }
}

impl From<RunnerUpdate> for Arc<Update> {
    fn from(update: RunnerUpdate) -> Self {
        Self::new(Update::Runner(update))
    }
}

/// What a valid upload of runner events says, computed by pure logic (contract §5.1).
#[derive(Clone, Debug, PartialEq)]
pub struct RunnerUpdate {
    /// The run is found by organisation and correlation id, lowest id first.
    pub correlation_id: Uuid,
    /// The run's state.
    pub status: RunStatus,
    /// The hosts with their states, sorted, never empty.
    pub hosts: Vec<(String, RunStatus)>,
    /// What was printed, the same for every host; without NUL.
    pub log: String,
    /// The events as stored in `runs.events`, in upload order.
    pub events: Vec<RunnerEvent>,
    /// Error code and details, where the executor reported one.
    pub error: Option<(String, String)>,
}

impl RunnerUpdate {
    /// Whether an upload with more events of the same run was applied before this one. Uploads hold
    /// everything so far and may overtake each other, so the one with more events is the later one.
    /// A final result is never out of date: whether it counts is for the states to say.
    #[must_use]
    pub fn is_out_of_date(&self, stored_events: i64) -> bool {
        let own = i64::try_from(self.events.len()).unwrap_or(i64::MAX);
        !self.status.is_final() && own < stored_events
    }
}

/// What the inbox says of an upload that was overtaken.
pub const OUT_OF_DATE: &str = "an upload with more events of this run was applied before";

/// What the inbox says of an upload about a run of our workers. Whoever may upload for an
/// organisation could otherwise end them.
#[must_use]
pub fn of_a_worker(run_id: Uuid) -> String {
    format!("run {run_id} is executed by a worker of ours and takes events from that worker only")
}

/// What applying an upload came to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ApplyOutcome {
    /// The run and its hosts are updated (as far as their states allow).
    Applied,
    /// A later upload of the run was applied before; only the upload was marked, with
    /// [`OUT_OF_DATE`].
    OutOfDate,
    /// No run of that organisation has that correlation id (or it is not the token's run), or
    /// the run is one of our workers'; only the upload was marked, with the reason.
    NoRun,
    /// The claim is not (or no longer) the caller's; nothing was changed.
    NotYours,
}
