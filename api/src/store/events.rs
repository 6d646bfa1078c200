//! The outbox as the publisher sees it: what no broker has yet, and what one has.

use async_trait::async_trait;
use time::OffsetDateTime;
use uuid::Uuid;

use super::StoreResult;
use crate::events::model::{
    Backlog, FeedPage, Place, Position, ReadFilter, ReadPage, RunFeedPage, StoredEvent,
};

/// The name of the lease that the publisher holds.
pub const OUTBOX_LEASE: &str = "outbox";

/// The most events that are counted as waiting.
pub const COUNTED_AT_MOST: i64 = 100_000;

/// How much is read at once.
#[derive(Clone, Copy, Debug)]
pub struct BatchSize {
    /// Events.
    pub events: i64,
    /// The most bytes of output of one host; longer ones come as their ends.
    pub stdout: usize,
    /// Bytes of output in all. One event is read whatever it has.
    pub bytes: usize,
}

/// By what right events are marked: the lease `outbox`, held by somebody since an epoch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fence {
    /// Who holds it.
    pub holder: Uuid,
    /// Since when.
    pub epoch: i64,
}

/// Events on their way to consumers.
#[async_trait]
pub trait EventStore: Send + Sync {
    /// The oldest events that no broker has, in the order in which they are published, with the
    /// output of their hosts as it is now, in one statement. Those of a run are in its order, and
    /// none is missing between them.
    async fn unpublished(&self, size: BatchSize) -> StoreResult<Vec<StoredEvent>>;

    /// Notes that a broker has these, unless the lease has another holder or epoch by now: then
    /// nothing is changed, and it is `false`.
    async fn mark_published(
        &self,
        ids: &[i64],
        fence: Fence,
        at: OffsetDateTime,
    ) -> StoreResult<bool>;

    /// How many events wait (counted up to [`COUNTED_AT_MOST`]), and the oldest one's age.
    async fn backlog(&self, now: OffsetDateTime) -> StoreResult<Backlog>;

    /// Writes `read` events for runs of the filter and their hosts, from a place on, newest first
    /// (where no organisation is named, by id): so many runs, fewer where they have many hosts, at
    /// least one. Each run is locked meanwhile, so that its numbers stay in order. Runs whose
    /// message to a connector is under way are left out: consumers do not know them yet.
    async fn write_reads(
        &self,
        filter: &ReadFilter,
        after: Option<Place>,
        limit: i64,
        now: OffsetDateTime,
    ) -> StoreResult<ReadPage>;
}

/// Events for whoever reads them as they come.
#[async_trait]
pub trait FeedStore: Send + Sync {
    /// Events of an organisation after a place, in the order in which they became visible to all:
    /// none appears later before one that was read. With the output of their hosts as it is now, in
    /// one statement.
    async fn feed(&self, org_id: &str, after: Position, size: BatchSize) -> StoreResult<FeedPage>;

    /// The place behind everything that the feed has now.
    async fn feed_end(&self) -> StoreResult<Position>;

    /// Events of a run after a number, the same way.
    async fn run_feed(&self, run_id: Uuid, after: i64, size: BatchSize)
    -> StoreResult<RunFeedPage>;
}
