//! The traits behind which the databases sit, one per aggregate. Methods name intentions; a
//! transaction never leaves a method; every method is atomic and safe to repeat.
//!
//! Adapters (`postgres/`, `sqlite/`) implement these and nothing else. They get validated values,
//! so that an error here means infrastructure, and they write the outbox row of every change in the
//! transaction that makes the change. Logic uses the traits, never an adapter.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    audit::model::{Actor, AuditEntry},
    execution::model::{
        AppendBatch, AppendOutcome, ClaimRequest, ClaimedWork, Finish, FinishOutcome, Hold,
        StoredInputs, Waiting,
    },
    playbooks::model::StoredPlaybook,
    recipients::model::{Recipient, RecipientSummary},
    runs::model::{
        CancelOutcome, CancelRequest, CreateOutcome, IdempotencyKey, LogSlice, NewRun, Rows,
        RunDetail, RunHostQuery, RunHostRow, RunQuery, RunRow, SendOutcome, StoredAnswer,
    },
    uploads::model::{ApplyOutcome, ClaimedUpload, Update, Upload},
};

mod audit;
pub mod events;
pub mod instances;
mod keys;
pub mod last_auth;
pub mod leases;
pub mod postgres;
pub mod registrations;
pub mod retention;
pub mod sqlite;
mod totals;
pub mod wakeups;

pub use audit::AuditStore;
pub use keys::KeyStore;

/// A failure of the database itself. Never the caller's fault.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, or did not answer in time. Worth trying again.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// It answered with something that must not happen.
    #[error("the database failed: {0}")]
    Failed(String),
}

/// The result of every store method.
pub type StoreResult<T> = Result<T, StoreError>;

/// Every aggregate of one database.
#[derive(Clone)]
pub struct Stores {
    /// Runs and run hosts.
    pub runs: Arc<dyn RunStore>,
    /// Work on runs by our workers.
    pub work: Arc<dyn WorkStore>,
    /// Recipients and their presence.
    pub recipients: Arc<dyn RecipientStore>,
    /// How recipients come to be, and what is known of them.
    pub registrations: Arc<dyn registrations::RegistrationStore>,
    /// Uploads of foreign hosts.
    pub uploads: Arc<dyn UploadStore>,
    /// Stored playbooks.
    pub playbooks: Arc<dyn PlaybookStore>,
    /// Keys of services.
    pub keys: Arc<dyn KeyStore>,
    /// What was changed by whom.
    pub audit: Arc<dyn AuditStore>,
    /// What time does to rows.
    pub upkeep: Arc<dyn UpkeepStore>,
    /// Rights that one process at a time has.
    pub leases: Arc<dyn leases::Leases>,
    /// When principals were last authenticated.
    pub last_auth: Arc<dyn last_auth::LastAuthStore>,
    /// The processes of the service.
    pub instances: Arc<dyn instances::InstanceStore>,
    /// Events on their way to consumers.
    pub events: Arc<dyn events::EventStore>,
    /// Events for whoever reads them as they come.
    pub feed: Arc<dyn events::FeedStore>,
    /// What is kept for a while only.
    pub retention: Arc<dyn retention::RetentionStore>,
    /// The way to other processes over the database; `None`: there are none.
    pub wakeups: Option<Arc<dyn wakeups::WakeupStore>>,
}

/// Runs and run hosts: dispatch, cancel, read.
#[async_trait]
pub trait RunStore: Send + Sync {
    /// Creates all runs with their hosts, work or dispatch rows and events, in one commit, together
    /// with the idempotency key. With a key that is in use nothing is created. Keys that have
    /// expired count as absent, judged by the time the runs have. Where all the runs are there
    /// already, an earlier try has been committed though its answer was lost: that is `Created`, and
    /// nothing is written again, no row of the audit log either.
    async fn create(
        &self,
        runs: &[NewRun],
        key: Option<&IdempotencyKey>,
        audit: &[AuditEntry],
    ) -> StoreResult<CreateOutcome>;

    /// Stores the answer of a request that was in flight, and the key's expiry as given here (a
    /// request in flight was created with an earlier one).
    async fn finish_idempotent(
        &self,
        key: &IdempotencyKey,
        answer: &StoredAnswer,
    ) -> StoreResult<()>;

    /// Settles a run that was sent by a connector. Without a `run_dispatch` row nothing happens.
    async fn settle_sent(&self, run_id: Uuid, outcome: SendOutcome) -> StoreResult<()>;

    /// Cancels what can be canceled; outcomes in the order of the requests. A run whose work is
    /// pending becomes canceled (with its hosts), claimed or started work is marked. A run of
    /// another organisation is not touched. Expired runs count as not running. Runs
    /// that nobody had canceled before go into the audit log as canceled `by` this one.
    async fn cancel(
        &self,
        requests: &[CancelRequest],
        now: OffsetDateTime,
        by: Option<&Actor>,
    ) -> StoreResult<Vec<CancelOutcome>>;

    /// A page of runs.
    async fn list(&self, query: &RunQuery) -> StoreResult<Rows<RunRow>>;

    /// A page of run hosts. With `with_log`, hosts of a worker's run that is not final get their
    /// log from its chunks. A log that is longer than the cap comes as an excerpt of it.
    async fn list_hosts(&self, query: &RunHostQuery) -> StoreResult<Rows<RunHostRow>>;

    /// One run of an organisation, with what the side tables know.
    async fn get(&self, org_id: &str, run_id: Uuid) -> StoreResult<Option<RunDetail>>;

    /// Output of a run from byte `from` on, at most `cap` bytes. A run of our workers is read from
    /// its chunks; any other from the log of `host`, or of its first host by name. `None`: no such
    /// run (or host) in the organisation.
    async fn read_log(
        &self,
        org_id: &str,
        run_id: Uuid,
        host: Option<&str>,
        from: u64,
        cap: usize,
    ) -> StoreResult<Option<LogSlice>>;
}

/// Work on runs by our workers: claim, append, finish (decisions 5 and 6).
#[async_trait]
pub trait WorkStore: Send + Sync {
    /// Claims the oldest claimable run of the recipient that is not expired or final, unless the
    /// recipient is busy with as many as the request allows at a time. Work claimed too often fails its run instead (with its
    /// hosts and events) and the next is tried. A request repeated with its claim gets its answer
    /// again, until the work is started.
    async fn claim(&self, request: &ClaimRequest) -> StoreResult<Option<ClaimedWork>>;

    /// The inputs of a run, for the holder of its claim. `None`: not the holder.
    async fn inputs(&self, hold: Hold) -> StoreResult<Option<StoredInputs>>;

    /// Of those who wait, the recipients whose bell rings: which have claimable work and are busy
    /// with fewer runs than they may hold at a time, and which of their runs are to be ended.
    async fn doorbells(
        &self,
        waiting: &[Waiting],
        now: OffsetDateTime,
    ) -> StoreResult<BTreeMap<Uuid, dispatcher_wire::execution::Doorbell>>;

    /// Applies a batch: locks the work, checks the hold, skips records it has, stores
    /// [`AppendBatch::fresh_output`] as one chunk, inserts unseen hosts (running, with `create`
    /// events) up to [`AppendBatch::hosts_max`] in all, with [`AppendBatch::hosts_note`] once where
    /// there are more, merges the outcome, renews the lease. The first record moves claimed work to
    /// started. An empty batch only renews.
    async fn append(&self, hold: Hold, batch: &AppendBatch) -> StoreResult<AppendOutcome>;

    /// Ends a run: the state follows from the merged outcome by
    /// [`crate::execution::outcome`], each host's log is written once (capped), every host becomes
    /// final, inputs and secrets are deleted, events are written. Repeating it changes nothing.
    async fn finish(&self, hold: Hold, finish: &Finish) -> StoreResult<FinishOutcome>;
}

/// Recipients and their presence.
#[async_trait]
pub trait RecipientStore: Send + Sync {
    /// Registers a recipient, or replaces its name and key where it exists in the same
    /// organisation, removed or not. `false`: it belongs to another organisation, nothing was changed.
    async fn register(&self, recipient: &Recipient) -> StoreResult<bool>;

    /// Notes a sign of life of each; never moves `last_seen` backwards.
    async fn seen(&self, recipients: &[Uuid], at: OffsetDateTime) -> StoreResult<()>;

    /// Those of the ids that are registered, by id.
    async fn find(&self, ids: &[Uuid]) -> StoreResult<BTreeMap<Uuid, Recipient>>;

    /// A page of an organisation's recipients that have all these labels, by name, then id.
    async fn list(
        &self,
        org_id: &str,
        labels: &BTreeMap<String, String>,
        limit: i64,
        offset: i64,
    ) -> StoreResult<Rows<RecipientSummary>>;
}

/// Uploads of foreign hosts.
#[async_trait]
pub trait UploadStore: Send + Sync {
    /// Makes a received upload durable as pending. Repeating the same id changes nothing.
    async fn accept(&self, upload: &Upload) -> StoreResult<()>;

    /// Claims the oldest pending upload without a live lease. One that was claimed too often
    /// becomes poisoned instead and the next is tried.
    async fn claim(
        &self,
        claim: Uuid,
        now: OffsetDateTime,
        lease: Duration,
    ) -> StoreResult<Option<ClaimedUpload>>;

    /// Applies an update and marks the upload, in one commit: locks the run, obeys
    /// [`dispatcher_wire::RunStatus::may_become`], upserts hosts (a host that is final takes
    /// nothing but a state it may become), replaces log and events, writes events. An update that is
    /// [`crate::uploads::model::RunnerUpdate::is_out_of_date`] changes nothing but the upload, which says so. Where the run
    /// is final afterwards, hosts that run and that the update does not name have its state too.
    /// Repeated under the same claim, it changes nothing and answers alike. What a Satellite says
    /// follows [`crate::uploads::satellite::plan`]: hosts are updated and never inserted.
    async fn apply(
        &self,
        upload: &ClaimedUpload,
        update: &Arc<Update>,
        now: OffsetDateTime,
    ) -> StoreResult<ApplyOutcome>;

    /// Gives a claimed upload back, to be claimed again from then on, as if it had not been claimed:
    /// what was missing was not its fault. `false`: the claim is not the caller's, or it is done
    /// with.
    async fn put_back(&self, upload: &ClaimedUpload, from: OffsetDateTime) -> StoreResult<bool>;

    /// Marks an upload as invalid with the reason. `false`: the claim is not the caller's.
    async fn reject(&self, upload: &ClaimedUpload, reason: &str) -> StoreResult<bool>;

    /// Those of the ids whose archive is not needed any more: applied, or not in the inbox at all.
    async fn not_needed(&self, ids: &[Uuid]) -> StoreResult<Vec<Uuid>>;

    /// A page of an organisation's uploads, newest first.
    async fn list(&self, org_id: &str, limit: i64, offset: i64) -> StoreResult<Rows<Upload>>;
}

/// Stored playbooks.
#[async_trait]
pub trait PlaybookStore: Send + Sync {
    /// Points a name at content. Returns the content it pointed at before, if it was another. The
    /// row of the audit log is written where the name is new or points at other content now.
    async fn put(
        &self,
        playbook: &StoredPlaybook,
        audit: Option<&AuditEntry>,
    ) -> StoreResult<Option<[u8; 32]>>;

    /// One stored playbook.
    async fn get(&self, org_id: &str, name: &str) -> StoreResult<Option<StoredPlaybook>>;

    /// A page of an organisation's playbooks, by name.
    async fn list(
        &self,
        org_id: &str,
        limit: i64,
        offset: i64,
    ) -> StoreResult<Rows<StoredPlaybook>>;

    /// A name that points at that content in that organisation: `None` where none does, so that it
    /// may be removed once no run can want it any more.
    async fn find_content(
        &self,
        org_id: &str,
        sha256: &[u8; 32],
    ) -> StoreResult<Option<StoredPlaybook>>;
}

/// What the cleaner did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Expired {
    /// Runs that became timeouts.
    pub runs: u64,
    /// Hosts that became timeouts.
    pub hosts: u64,
}

/// What time does to rows.
#[async_trait]
pub trait UpkeepStore: Send + Sync {
    /// The database answers.
    async fn ping(&self) -> StoreResult<()>;

    /// Turns expired running runs and the running hosts of timed-out runs into timeouts, with
    /// their events, repeating the predicate in the update; at most `limit` runs a call. Work not
    /// started is done (an expired run is never started); started work is asked to end.
    async fn expire(&self, now: OffsetDateTime, limit: i64) -> StoreResult<Expired>;

    /// Forgets idempotency keys that have expired and outbox rows older than `outbox_before`
    /// (`published_only`: those that a broker has), at most `limit` of each; how many rows went.
    /// Fewer than `limit`: nothing is left.
    async fn forget(
        &self,
        now: OffsetDateTime,
        outbox_before: OffsetDateTime,
        published_only: bool,
        limit: i64,
    ) -> StoreResult<u64>;
}
