//! What a bare loop does: the same rows as the store, with the driver alone.

use anyhow::Result;
use async_trait::async_trait;
use dispatcher_api::runs::model::NewRun;
use uuid::Uuid;

use crate::large::Wanted;

/// Bare loops on one database.
#[async_trait]
pub(crate) trait Bare: Send {
    /// Writes the rows of these runs in one transaction, a statement per row.
    async fn dispatch(&mut self, runs: &[NewRun]) -> Result<()>;
    /// Writes one piece of output and moves the work's counters, in one transaction.
    async fn append(&mut self, run: Uuid, start: i64, records: i64, data: &[u8]) -> Result<()>;
    /// Reads a page of 50 runs of an organisation and counts all of them; answers with the count.
    async fn list(&mut self, org: &str, offset: i64) -> Result<i64>;
    /// Fills the table of runs: `runs` of them, evenly over `orgs` organisations.
    async fn seed(&mut self, runs: i64, orgs: i64) -> Result<()>;
    /// Fills [`crate::large::LARGE`] with so many runs, and [`crate::large::WITH_HOSTS`].
    async fn seed_large(&mut self, runs: i64) -> Result<()>;
    /// Reads a page of 50 runs of the large organisation and counts those that match; answers with the
    /// count.
    async fn filtered(&mut self, wanted: Wanted, offset: i64) -> Result<i64>;
    /// A run that has hosts.
    async fn a_run_with_hosts(&mut self) -> Result<Uuid>;
    /// Reads a page of 50 hosts with their output and counts all of them; answers with the count.
    async fn hosts(&mut self, run: Option<Uuid>, offset: i64) -> Result<i64>;
}
