//! What is kept for a while only: output, final runs, their uploads, the audit.

use async_trait::async_trait;
use time::OffsetDateTime;
use uuid::Uuid;

use super::StoreResult;
use crate::events::model::Place;

/// Final runs in the order in which they ended.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FinalRuns {
    /// Their ids.
    pub ids: Vec<Uuid>,
    /// The last run that was looked at; nothing where none is left.
    pub last: Option<Place>,
}

/// How many rows went, or would go.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Purged {
    /// Runs whose output went.
    pub outputs: u64,
    /// Runs.
    pub runs: u64,
    /// Their hosts.
    pub run_hosts: u64,
    /// Uploads.
    pub uploads: u64,
    /// Rows of the audit.
    pub audit: u64,
    /// Objects of uploads that went, which are to be removed too.
    pub objects: Vec<String>,
}

impl Purged {
    /// Both together.
    pub fn add(&mut self, other: Self) {
        self.outputs += other.outputs;
        self.runs += other.runs;
        self.run_hosts += other.run_hosts;
        self.uploads += other.uploads;
        self.audit += other.audit;
        self.objects.extend(other.objects);
    }
}

/// Whether rows are removed or counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purge {
    /// Only counted; nothing is changed or locked.
    Count,
    /// Removed, at this time.
    Remove(OffsetDateTime),
}

/// What is kept for a while only. A run counts as over when it is final and nobody works on it any
/// more: its work is done, or its time was over before the same moment.
#[async_trait]
pub trait RetentionStore: Send + Sync {
    /// Looks at so many runs that were over before then, from a place on; `with_output`: names only
    /// those that have output.
    async fn final_runs(
        &self,
        before: OffsetDateTime,
        after: Option<Place>,
        limit: i64,
        with_output: bool,
    ) -> StoreResult<FinalRuns>;

    /// Removes what these runs and their hosts printed. The runs are locked and judged again; rows
    /// stay, without an event.
    async fn purge_output(
        &self,
        runs: &[Uuid],
        before: OffsetDateTime,
        purge: Purge,
    ) -> StoreResult<Purged>;

    /// Removes these runs with everything that is kept of them but events, and writes a `delete`
    /// event for each. The runs are locked and judged again.
    async fn purge_runs(
        &self,
        runs: &[Uuid],
        before: OffsetDateTime,
        purge: Purge,
    ) -> StoreResult<Purged>;

    /// Removes settled uploads that belong to no known run and were received before then, at most
    /// so many; counts all of them where they are only counted.
    async fn purge_uploads(
        &self,
        before: OffsetDateTime,
        limit: i64,
        purge: Purge,
    ) -> StoreResult<Purged>;

    /// Removes rows of the audit that are older, at most so many; counts all of them where they are
    /// only counted.
    async fn purge_audit(
        &self,
        before: OffsetDateTime,
        limit: i64,
        purge: Purge,
    ) -> StoreResult<Purged>;
}
