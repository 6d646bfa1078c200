//! Execution: what workers call (claim, events, finish), and how a run's outcome follows from it.
//!
//! The logic is the same for a worker on another host (`routes.rs`) and for the one inside the
//! process (`local.rs`): both end in the methods of [`Execution`], one file per thing they do.

use std::sync::Arc;

use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    bus::Wakeups,
    config::execution::ExecutionSettings,
    keyring::Keyring,
    runs::inputs::InputsError,
    store::{RecipientStore, StoreError, WorkStore},
};

pub mod append;
pub mod batch;
pub mod claim;
pub mod excerpt;
pub mod finish;
mod hub;
pub mod inputs;
pub mod local;
pub mod model;
pub mod outcome;
pub mod presence;
pub mod routes;
pub mod wait;

/// Why a worker's request was not carried out. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ExecutionError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The claim is not the caller's, or not any more.
    #[error("the run is not claimed by this worker under this claim; end it and claim again")]
    NotYours,
    /// Records are missing.
    #[error("records are missing: send from record {0} on")]
    Gap(u64),
    /// The events are not acceptable.
    #[error(transparent)]
    Batch(#[from] batch::BatchError),
    /// The inputs cannot be handed out.
    #[error(transparent)]
    Inputs(#[from] InputsError),
}

/// What workers may do, over the stores of one process.
#[derive(Debug)]
pub struct Execution {
    parts: Parts,
    presence: Arc<presence::Presence>,
    hub: Arc<hub::Hub>,
}

/// What [`Execution`] is made of.
pub struct Parts {
    /// Work on runs.
    pub work: Arc<dyn WorkStore>,
    /// Recipients and their presence.
    pub recipients: Arc<dyn RecipientStore>,
    /// Wake-ups within the process.
    pub wakeups: Wakeups,
    /// Opens sealed secrets, signs addresses of stored playbooks.
    pub keyring: Arc<Keyring>,
    /// Where this service is reached, as it stands in addresses of stored playbooks.
    pub public_url: String,
    /// Leases and limits.
    pub settings: ExecutionSettings,
    /// Ends waits when the process ends.
    pub shutdown: CancellationToken,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Execution {
    /// Ready to serve workers.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        let hub = Arc::<hub::Hub>::default();
        parts.wakeups.watch_recipients(hub.clone());
        Arc::new(Self { parts, presence: Arc::default(), hub })
    }

    /// Notes a sign of life of a recipient, unless that was done a moment ago.
    async fn seen(&self, recipient: Uuid) -> Result<(), StoreError> {
        note_presence(&*self.parts.recipients, &self.presence, &[recipient]).await
    }

    fn lease_until(&self, now: OffsetDateTime) -> OffsetDateTime {
        now + self.parts.settings.lease
    }
}

/// Notes a sign of life of each of whom one is due.
async fn note_presence(
    recipients: &dyn RecipientStore,
    presence: &presence::Presence,
    ids: &[Uuid],
) -> Result<(), StoreError> {
    let at = std::time::Instant::now();
    let due = presence.due(ids.iter().copied(), at);
    if !due.is_empty() {
        recipients.seen(&due, now()).await?;
        presence.noted(&due, at);
    }
    Ok(())
}

/// Now, as precise as the databases keep it.
fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc().truncate_to_microsecond()
}
