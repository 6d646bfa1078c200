//! The types of runs and run hosts: rows, queries and the outcome of state changes. No IO.

use std::collections::BTreeMap;

use dispatcher_wire::RunStatus;
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

/// A row of `runs`, as the contract's §3 defines it, without `events`.
#[derive(Clone, Debug, PartialEq)]
pub struct RunRow {
    /// The run.
    pub id: Uuid,
    /// Its organisation.
    pub org_id: String,
    /// Who executes it.
    pub recipient: Uuid,
    /// Ties uploads to it; not unique.
    pub correlation_id: Uuid,
    /// Where the playbook came from, unsigned.
    pub url: String,
    /// As stored: normally an object of strings, JSON null in some databases of the original.
    pub labels: Value,
    /// As stored; see [`RunRow::status_at`].
    pub status: RunStatus,
    /// Seconds from creation.
    pub timeout: i32,
    /// The service that dispatched it.
    pub service: String,
    /// What people call it.
    pub name: Option<String>,
    /// Where people look at it.
    pub web_console_url: Option<String>,
    /// On whose behalf.
    pub principal: Option<String>,
    /// The Satellite it goes through.
    pub sat_id: Option<Uuid>,
    /// The organisation inside it.
    pub sat_org_id: Option<String>,
    /// Whether every upload carries everything so far.
    pub response_full: bool,
    /// Microsecond precision, UTC.
    pub created_at: OffsetDateTime,
    /// Microsecond precision, UTC.
    pub updated_at: OffsetDateTime,
}

impl RunRow {
    /// When its time is over.
    #[must_use]
    pub fn expires_at(&self) -> OffsetDateTime {
        self.created_at + time::Duration::seconds(i64::from(self.timeout))
    }

    /// Whether it is of one of these services; none means every one.
    #[must_use]
    pub fn is_of_services(&self, services: &[String]) -> bool {
        services.is_empty() || services.contains(&self.service)
    }

    /// The state a reader is shown at `now`: an expired running run is a timeout even before the
    /// cleaner has been there.
    #[must_use]
    pub fn status_at(&self, now: OffsetDateTime) -> RunStatus {
        if self.status == RunStatus::Running && self.expires_at() <= now {
            RunStatus::Timeout
        } else {
            self.status
        }
    }
}

/// A row of `run_hosts`.
#[derive(Clone, Debug, PartialEq)]
pub struct RunHostRow {
    /// The row.
    pub id: Uuid,
    /// Its run.
    pub run_id: Uuid,
    /// Its id in the host inventory.
    pub inventory_id: Option<Uuid>,
    /// Its name.
    pub host: String,
    /// As stored.
    pub status: RunStatus,
    /// What was printed; for runs of our workers empty until final (see `run_output`).
    pub log: String,
    /// Microsecond precision, UTC.
    pub created_at: OffsetDateTime,
    /// Microsecond precision, UTC.
    pub updated_at: OffsetDateTime,
}

/// A run to be created. Validated: nothing in it can make an insert fail.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// Chosen by us, so that it is known before the commit.
    pub id: Uuid,
    /// Its organisation.
    pub org_id: String,
    /// Who executes it.
    pub recipient: Uuid,
    /// Ties uploads to it.
    pub correlation_id: Uuid,
    /// Where the playbook is, unsigned.
    pub url: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Seconds from creation.
    pub timeout: i32,
    /// The service that dispatches it.
    pub service: String,
    /// What people call it.
    pub name: Option<String>,
    /// Where people look at it.
    pub web_console_url: String,
    /// On whose behalf.
    pub principal: Option<String>,
    /// The Satellite it goes through.
    pub sat_id: Option<Uuid>,
    /// The organisation inside it.
    pub sat_org_id: Option<String>,
    /// Whether every upload carries everything so far.
    pub response_full: bool,
    /// Truncated to microseconds by the maker.
    pub created_at: OffsetDateTime,
    /// Hosts known beforehand, with distinct names.
    pub hosts: Vec<NewRunHost>,
    /// How it reaches its recipient.
    pub route: NewRoute,
}

impl NewRun {
    /// The row it becomes.
    #[must_use]
    pub fn row(&self) -> RunRow {
        let label = |(key, value): (&String, &String)| (key.clone(), Value::from(value.clone()));
        RunRow {
            id: self.id,
            org_id: self.org_id.clone(),
            recipient: self.recipient,
            correlation_id: self.correlation_id,
            url: self.url.clone(),
            labels: Value::Object(self.labels.iter().map(label).collect()),
            status: RunStatus::Running,
            timeout: self.timeout,
            service: self.service.clone(),
            name: self.name.clone(),
            web_console_url: Some(self.web_console_url.clone()),
            principal: self.principal.clone(),
            sat_id: self.sat_id,
            sat_org_id: self.sat_org_id.clone(),
            response_full: self.response_full,
            created_at: self.created_at,
            updated_at: self.created_at,
        }
    }

    /// The rows its hosts become.
    pub fn host_rows(&self) -> impl Iterator<Item = RunHostRow> {
        self.hosts.iter().map(|host| RunHostRow {
            id: host.id,
            run_id: self.id,
            inventory_id: host.inventory_id,
            host: host.host.clone(),
            status: RunStatus::Running,
            log: String::new(),
            created_at: self.created_at,
            updated_at: self.created_at,
        })
    }
}

/// How a new run reaches its recipient, with what that way needs.
#[derive(Clone, Debug)]
pub enum NewRoute {
    /// Our worker claims it: a row in `run_work`, and the `create` event at once.
    Worker {
        /// [`dispatcher_wire::inputs::RunInputs`] as JSON, without secrets.
        inputs: Option<Value>,
        /// The inputs' secrets, sealed.
        sealed_secrets: Option<Vec<u8>>,
    },
    /// Sent by us after the commit: a row in `run_dispatch`, the event only once it was accepted.
    CloudConnector,
}

/// A host known at dispatch time.
#[derive(Clone, Debug)]
pub struct NewRunHost {
    /// The row.
    pub id: Uuid,
    /// Its name: `ansible_host`, else the inventory id as text.
    pub host: String,
    /// Its id in the host inventory.
    pub inventory_id: Option<Uuid>,
    /// Its subscription manager id.
    pub subscription_manager_id: Option<Uuid>,
}

/// What became of a message that was sent for a run (decision 3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SendOutcome {
    /// The run stands; its `create` event is written.
    Accepted,
    /// Definitely not delivered: the run is removed as if it had never been.
    Refused,
    /// Nobody knows: the run stays, uploads or its timeout settle it.
    Ambiguous,
}

/// The identity of a request that may be repeated (decision 3).
#[derive(Clone, Debug)]
pub struct IdempotencyKey {
    /// Kind and name of the principal.
    pub principal: String,
    /// Its organisation, `*` for all.
    pub org_id: String,
    /// The header's value, 1 to 255 visible characters.
    pub key: String,
    /// SHA-256 of the raw body.
    pub body_hash: [u8; 32],
    /// After this it may be forgotten.
    pub expires_at: OffsetDateTime,
    /// The finished answer where it is known before the commit; otherwise the request stays in
    /// flight until [`crate::store::RunStore::finish_idempotent`].
    pub answer: Option<StoredAnswer>,
}

/// A finished answer, kept to be replayed byte by byte.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredAnswer {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// What a request to create runs came to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CreateOutcome {
    /// Everything is committed.
    Created,
    /// The key was used before with the same body and is answered: replay this.
    Replay(StoredAnswer),
    /// The key is in use by a request that is not finished.
    InFlight,
    /// The key was used with another body.
    OtherBody,
}

/// One run to be canceled.
#[derive(Clone, Debug)]
pub struct CancelRequest {
    /// The run.
    pub run_id: Uuid,
    /// The organisation the caller named.
    pub org_id: String,
    /// Who cancels.
    pub principal: String,
}

/// What a cancellation came to.
#[derive(Clone, Debug, PartialEq)]
pub enum CancelOutcome {
    /// No such run.
    NotFound,
    /// It belongs to another organisation.
    OtherOrg,
    /// One of our workers' that is final (or expired).
    NotRunning,
    /// It had not been started by a worker, and is canceled now.
    Canceled,
    /// Its worker has been asked to end it (repeated requests too).
    Requested {
        /// Who is to be woken.
        recipient: Uuid,
    },
    /// It is not one of our workers', whatever its state: the contract's checks on such a run come
    /// before the one on its state.
    Elsewhere(Box<RunRow>),
}

/// Which runs a list shows. Everything is AND-ed.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// The organisation, always.
    pub org_id: String,
    /// Only these services; empty means every one.
    pub services: Vec<String>,
    /// The state as shown (expiry considered).
    pub status: Option<RunStatus>,
    /// Exactly this recipient.
    pub recipient: Option<Uuid>,
    /// Exactly this service.
    pub service: Option<String>,
    /// All of these labels.
    pub labels: BTreeMap<String, String>,
}

/// A page of runs.
#[derive(Clone, Debug)]
pub struct RunQuery {
    /// Which.
    pub filter: RunFilter,
    /// Oldest first instead of newest first; ties by id, ascending.
    pub ascending: bool,
    /// 1 to 200.
    pub limit: i64,
    /// From 0.
    pub offset: i64,
    /// The time at which expiry is judged.
    pub now: OffsetDateTime,
}

/// Which run hosts a list shows. Everything is AND-ed; the order is by run host id.
#[derive(Clone, Debug, Default)]
pub struct RunHostFilter {
    /// The run's organisation, always.
    pub org_id: String,
    /// Only runs of these services; empty means every one.
    pub services: Vec<String>,
    /// `timeout` looks at the run (expiry considered), `running` at the host and at
    /// the run's time, others at the host.
    pub status: Option<RunStatus>,
    /// Exactly this run.
    pub run_id: Option<Uuid>,
    /// Exactly this service of the run.
    pub run_service: Option<String>,
    /// All of these labels of the run.
    pub run_labels: BTreeMap<String, String>,
    /// Exactly this inventory id.
    pub inventory_id: Option<Uuid>,
}

/// A page of run hosts.
#[derive(Clone, Debug)]
pub struct RunHostQuery {
    /// Which.
    pub filter: RunHostFilter,
    /// Whether the log is wanted; without it `log` is empty and not read.
    pub with_log: bool,
    /// The most of a host's log, in bytes: longer ones are read by their two ends only.
    pub log_cap: usize,
    /// 1 to 200.
    pub limit: i64,
    /// From 0.
    pub offset: i64,
    /// The time at which expiry is judged.
    pub now: OffsetDateTime,
}

/// A page of rows with the number of all that match.
#[derive(Clone, Debug)]
pub struct Rows<T> {
    /// The page.
    pub rows: Vec<T>,
    /// All that match.
    pub total: i64,
}

/// One run with what our side tables know of it.
#[derive(Clone, Debug)]
pub struct RunDetail {
    /// The run.
    pub run: RunRow,
    /// What its worker has made of it; `None` where it is not one of our workers'.
    pub work: Option<WorkView>,
    /// Error code and details that its executor reported.
    pub error: Option<(String, String)>,
    /// Bytes of output stored as chunks.
    pub output_bytes: u64,
}

/// How far a worker is with a run.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkView {
    /// See [`crate::execution::model::WorkState`].
    pub state: crate::execution::model::WorkState,
    /// Another run that the same recipient is busy with, if any.
    pub busy_with: Option<Uuid>,
    /// When the recipient was last seen.
    pub recipient_seen: Option<OffsetDateTime>,
    /// Whether it was asked to end.
    pub cancel_requested: bool,
}

/// A piece of a run's output.
#[derive(Clone, Debug, Default)]
pub struct LogSlice {
    /// From the byte that was asked for; ends on a chunk's end or the cap.
    pub bytes: Vec<u8>,
    /// Whether the run is final and this slice reaches the end.
    pub complete: bool,
}
