//! The publisher: hands events to the broker, in order per run, at least once.
//!
//! One instance publishes at a time: the holder of a lease, which is renewed every third of its
//! time. Without it nothing more is sent or marked; marking checks the lease's epoch once more in
//! its statement. A run never has two messages under way, so that neither a refusal nor a lost
//! connection can make a later one arrive before an earlier one. After any failure the batch is
//! given up and read again: what the broker has had by then it gets once more, under the same id.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use auth_tracker::ports::{Lease, Leases};
use dispatcher_worker::crash;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    message,
    model::{Backlog, StoredEvent},
};
use crate::{
    bus::{
        Topic, Wakeups,
        broker::{Broker, BrokerError, Line},
    },
    config::events::EventSettings,
    store::{
        StoreError,
        events::{BatchSize, EventStore, Fence, OUTBOX_LEASE},
    },
};

/// How long the right to publish lasts without being renewed.
const LEASE: Duration = Duration::from_secs(6);
/// How often it is renewed, or asked for.
const RENEWAL: Duration = Duration::from_secs(2);
/// How often the outbox is looked at without a wake-up.
const POLL: Duration = Duration::from_secs(1);
/// How often it is counted.
const COUNTING: Duration = Duration::from_secs(5);
/// The pause after a failure; it doubles with each one that follows.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// The most output that one batch holds in memory, unless one message may take more.
const BATCH_BYTES: usize = 16 << 20;

/// What the publisher needs.
pub struct Parts {
    /// The outbox.
    pub events: Arc<dyn EventStore>,
    /// The right to publish.
    pub leases: Arc<dyn Leases>,
    /// Where events go.
    pub broker: Arc<dyn Broker>,
    /// Who says that there are new ones.
    pub wakeups: Wakeups,
    /// How they are handed over.
    pub settings: EventSettings,
    /// What operators call this process.
    pub name: String,
}

/// The publisher of one process.
pub struct Publisher {
    parts: Parts,
    holder: Uuid,
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").field("holder", &self.holder).finish_non_exhaustive()
    }
}

/// Why publishing stopped for the moment.
#[derive(Debug, thiserror::Error)]
enum Interruption {
    #[error("the broker: {0}")]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("another instance publishes now")]
    Superseded,
}

/// The right to publish, as long as it is renewed.
struct Right {
    lease: Lease,
    until: Mutex<Instant>,
}

impl Right {
    fn until(&self) -> Instant {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_valid(&self) -> bool {
        Instant::now() < self.until()
    }
}

impl Publisher {
    /// Ready to publish.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self { parts, holder: Uuid::new_v4() }
    }

    /// Publishes whenever it has the right to, until the end of the process.
    pub async fn run(&self, shutdown: CancellationToken) {
        describe();
        while !shutdown.is_cancelled() {
            if let Some(right) = self.asked().await {
                tracing::info!(epoch = right.lease.epoch, "this instance publishes events");
                tokio::select! {
                    () = self.kept(&right) => tracing::warn!("another instance may publish events"),
                    () = self.counting() => {}
                    () = self.publish(&right, &shutdown) => {}
                }
                show(Backlog::default());
            }
            if shutdown.run_until_cancelled(tokio::time::sleep(RENEWAL)).await.is_none() {
                break;
            }
        }
        let released = self.parts.leases.release(OUTBOX_LEASE, self.holder);
        if let Ok(Err(error)) = tokio::time::timeout(RENEWAL, released).await {
            tracing::debug!(%error, "the right to publish was not given back; it ends by itself");
        }
    }

    /// The right to publish, unless another instance has it.
    async fn asked(&self) -> Option<Right> {
        let since = Instant::now();
        match self.hold().await {
            Ok(lease) => Some(Right { lease: lease?, until: Mutex::new(since + LEASE) }),
            Err(error) => {
                tracing::debug!(%error, "the right to publish cannot be asked for");
                None
            }
        }
    }

    async fn hold(&self) -> Result<Option<Lease>, auth_tracker::ports::PortError> {
        let Parts { leases, name, .. } = &self.parts;
        leases.hold(OUTBOX_LEASE, self.holder, name, LEASE).await
    }

    /// Renews the right until it is lost.
    async fn kept(&self, right: &Right) {
        loop {
            tokio::time::sleep(RENEWAL).await;
            let since = Instant::now();
            let left = right.until().saturating_duration_since(since);
            match tokio::time::timeout(left, self.hold()).await {
                Ok(Ok(Some(lease))) if lease == right.lease => {
                    *right.until.lock().unwrap_or_else(PoisonError::into_inner) = since + LEASE;
                }
                Ok(Ok(_)) => return,
                Ok(Err(_)) | Err(_) if !right.is_valid() => return,
                Ok(Err(error)) => tracing::debug!(%error, "the right to publish was not renewed"),
                Err(_) => {}
            }
        }
    }

    /// Shows how much waits, again and again.
    async fn counting(&self) {
        let mut ticks = tokio::time::interval(COUNTING);
        loop {
            ticks.tick().await;
            match self.parts.events.backlog(OffsetDateTime::now_utc()).await {
                Ok(backlog) => show(backlog),
                Err(error) => tracing::debug!(%error, "the outbox cannot be counted"),
            }
        }
    }

    /// Publishes until the process ends or the right does.
    async fn publish(&self, right: &Right, shutdown: &CancellationToken) {
        let (mut line, mut pause) = (None, FIRST_PAUSE);
        while right.is_valid() && !shutdown.is_cancelled() {
            let news = self.parts.wakeups.listen(Topic::Events);
            let wait = match self.round(right, &mut line).await {
                Ok(0) => {
                    pause = FIRST_PAUSE;
                    shutdown.run_until_cancelled(news.wait(POLL)).await.map(drop)
                }
                Ok(_) => {
                    pause = FIRST_PAUSE;
                    continue;
                }
                Err(Interruption::Superseded) => return,
                Err(error) => {
                    line = None;
                    metrics::counter!("dispatcher_outbox_failures_total").increment(1);
                    tracing::warn!(%error, "events wait; they are published again from there on");
                    let waited = shutdown.run_until_cancelled(tokio::time::sleep(pause)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    waited
                }
            };
            if wait.is_none() {
                break;
            }
        }
        if let Some(line) = line {
            line.close().await;
        }
    }

    /// Publishes one batch and marks it; how many events that were.
    async fn round(
        &self,
        right: &Right,
        line: &mut Option<Arc<dyn Line>>,
    ) -> Result<usize, Interruption> {
        let settings = &self.parts.settings;
        let size = BatchSize {
            events: settings.batch.into(),
            stdout: settings.message_max,
            bytes: BATCH_BYTES.max(settings.message_max),
        };
        let events = self.parts.events.unpublished(size).await?;
        if events.is_empty() {
            return Ok(0);
        }
        let open = match line {
            Some(open) => Arc::clone(open),
            None => Arc::clone(line.insert(self.parts.broker.open().await?)),
        };
        let (confirmed, interruption) = self.send(open.as_ref(), &events, right).await;
        crash::point("events.confirmed");
        if !right.is_valid() || !self.mark(&confirmed, right).await? {
            return Err(Interruption::Superseded);
        }
        interruption.map_or(Ok(confirmed.len()), Err)
    }

    async fn mark(&self, confirmed: &[i64], right: &Right) -> Result<bool, StoreError> {
        let fence = Fence { holder: self.holder, epoch: right.lease.epoch };
        let now = OffsetDateTime::now_utc().truncate_to_microsecond();
        let marked = self.parts.events.mark_published(confirmed, fence, now).await?;
        if marked {
            metrics::counter!("dispatcher_outbox_published_total")
                .increment(confirmed.len() as u64);
        }
        Ok(marked)
    }

    /// Sends a batch: many runs at once, one message of each at a time. The ids of what the broker
    /// has for certain, and what stopped it before the end.
    async fn send(
        &self,
        line: &dyn Line,
        events: &[StoredEvent],
        right: &Right,
    ) -> (Vec<i64>, Option<Interruption>) {
        let (mut ready, mut later) = lanes(events);
        let (mut confirmed, mut interruption) = (Vec::with_capacity(events.len()), None);
        let mut under_way = FuturesUnordered::new();
        loop {
            while interruption.is_none()
                && under_way.len() < self.parts.settings.in_flight
                && let Some(event) = ready.pop_front()
            {
                if right.is_valid() {
                    under_way.push(self.hand_over(line, event, right.lease.epoch));
                } else {
                    interruption = Some(Interruption::Superseded);
                }
            }
            let Some((event, outcome)) = under_way.next().await else { break };
            match outcome {
                Ok(()) => {
                    confirmed.push(event.id);
                    ready.extend(later.get_mut(&event.run_id).and_then(VecDeque::pop_front));
                }
                Err(error) => drop(interruption.get_or_insert(error.into())),
            }
        }
        (confirmed, interruption)
    }

    async fn hand_over<'a>(
        &self,
        line: &dyn Line,
        event: &'a StoredEvent,
        epoch: i64,
    ) -> (&'a StoredEvent, Result<(), BrokerError>) {
        let message = message::compose(event, epoch, self.parts.settings.message_max);
        let outcome = line.publish(&message).await;
        crash::point("events.one_confirmed");
        (event, outcome)
    }
}

/// The first event of each run, in order, and what follows them.
fn lanes(
    events: &[StoredEvent],
) -> (VecDeque<&StoredEvent>, BTreeMap<Uuid, VecDeque<&StoredEvent>>) {
    let (mut first, mut later) = (VecDeque::new(), BTreeMap::<_, VecDeque<_>>::new());
    for event in events {
        match later.entry(event.run_id) {
            std::collections::btree_map::Entry::Vacant(lane) => {
                first.push_back(event);
                lane.insert(VecDeque::new());
            }
            std::collections::btree_map::Entry::Occupied(mut lane) => {
                lane.get_mut().push_back(event);
            }
        }
    }
    (first, later)
}

fn describe() {
    metrics::describe_gauge!(
        "dispatcher_outbox_waiting",
        "Events that the broker does not have yet, counted up to 100000, by the instance that \
         publishes."
    );
    metrics::describe_gauge!(
        "dispatcher_outbox_oldest_seconds",
        "The age of the oldest event that the broker does not have yet."
    );
    metrics::describe_counter!(
        "dispatcher_outbox_published_total",
        "Events that the broker has confirmed."
    );
    metrics::describe_counter!(
        "dispatcher_outbox_failures_total",
        "Times that publishing was interrupted by the broker or the database."
    );
    metrics::counter!("dispatcher_outbox_published_total").absolute(0);
    metrics::counter!("dispatcher_outbox_failures_total").absolute(0);
    show(Backlog::default());
}

#[expect(clippy::cast_precision_loss, reason = "a gauge of at most 100000")]
fn show(backlog: Backlog) {
    metrics::gauge!("dispatcher_outbox_waiting").set(backlog.waiting as f64);
    metrics::gauge!("dispatcher_outbox_oldest_seconds").set(backlog.oldest_seconds);
}

#[cfg(test)]
#[path = "publisher_tests.rs"]
mod tests;
