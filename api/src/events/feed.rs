//! Events as a stream that goes on: of an organisation, or of one run to its end. From any place that
//! was read before, without repetition; what is kept no more is said to be missing. At no time is
//! more than one page in memory.

use std::{collections::VecDeque, future::Future, sync::Arc, time::Duration};

use futures_util::{Stream, stream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::model::{Entity, Position, StoredEvent};
use crate::{
    bus::{Listener, Topic, Wakeups},
    store::{
        RunStore, StoreResult,
        events::{BatchSize, FeedStore},
    },
};

/// The most output of a host that an event carries, in bytes: what people watch. The log has all.
pub const STDOUT_MAX: usize = 64 << 10;
/// What is read at once.
const PAGE: BatchSize = BatchSize { events: 100, stdout: STDOUT_MAX, bytes: 1 << 20 };
/// How long a reader trusts in being woken before it looks by itself.
const LOOK_AFTER: Duration = Duration::from_secs(1);
/// The same while wake-ups of other instances do not arrive.
const LOOK_ALONE: Duration = Duration::from_millis(500);
/// Between two looks, however often it is woken: a busy service must not be asked for every event by
/// everybody who watches.
const BREATH: Duration = Duration::from_millis(100);

/// What reading the feed needs of the service.
#[derive(Clone)]
pub struct Feed {
    /// Where events are.
    pub events: Arc<dyn FeedStore>,
    /// Where runs are.
    pub runs: Arc<dyn RunStore>,
    /// Tells of new events.
    pub wakeups: Wakeups,
    /// Ends readers when the service ends.
    pub shutdown: CancellationToken,
    /// After how long without an event a sign of life is given.
    pub heartbeat: Duration,
}

/// Which events of an organisation are wanted.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FeedFilter {
    /// The organisation.
    pub org_id: String,
    /// Only of runs of these services; empty means every one.
    pub services: Vec<String>,
    /// Only of runs of this one.
    pub service: Option<String>,
    /// Only changes into this state.
    pub status: Option<String>,
    /// Only runs, or only run hosts.
    pub entity: Option<Entity>,
}

impl FeedFilter {
    fn wants(&self, event: &StoredEvent) -> bool {
        let is =
            |wanted: &Option<String>, value: &str| wanted.as_ref().is_none_or(|it| it == value);
        (self.services.is_empty() || self.services.contains(&event.service))
            && is(&self.service, &event.service)
            && is(&self.status, &event.status)
            && self.entity.is_none_or(|entity| entity == event.entity)
    }
}

/// What a reader gets.
#[derive(Debug)]
pub enum Item {
    /// An event, and the place behind it.
    Event(String, Box<StoredEvent>),
    /// Events are missing here.
    Gap(Gap),
    /// Nothing happened for a while; everything up to this place was read.
    Alive(String),
    /// The run is over, and all of it was told.
    End,
}

/// What a stream gives: its end, where the database fails.
pub type Read = StoreResult<Item>;

/// Events that are missing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Gap {
    /// Some that came after the place that was named, nobody knows which.
    Unknown,
    /// Those of a run with these numbers, the last one included.
    Numbers(i64, i64),
}

/// Where one reader is.
struct Reading<S> {
    feed: Feed,
    source: S,
    /// What was read and not given out yet.
    read: VecDeque<Item>,
    /// When something was given out last, and when it looked last.
    given: Instant,
    looked: Option<Instant>,
    ended: bool,
}

/// Events after a place, and that place.
trait Source: Send + Sync {
    /// What wakes its reader.
    fn topic(&self) -> Topic;
    /// The place that is reached.
    fn place(&self) -> String;
    /// Reads on; whether there may be more at once.
    fn look(
        &mut self,
        feed: &Feed,
        read: &mut VecDeque<Item>,
    ) -> impl Future<Output = StoreResult<bool>> + Send;
}

impl Feed {
    /// Events of an organisation after a place; `None`: from now on.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn of_org(
        self,
        filter: FeedFilter,
        after: Option<Position>,
    ) -> StoreResult<impl Stream<Item = Read> + Send + 'static> {
        let at = match after {
            Some(after) => after,
            None => self.events.feed_end().await?,
        };
        Ok(self.follow(OfOrg { filter, at, in_gap: false }))
    }

    /// Events of a run after a number, to its end. The caller has seen to it that the run may be
    /// read.
    pub fn of_run(
        self,
        org_id: String,
        run_id: Uuid,
        after: i64,
    ) -> impl Stream<Item = Read> + Send + 'static {
        self.follow(OfRun { org_id, run_id, at: after })
    }

    /// Whether a run is over and a reader at this number has all of it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn is_read(&self, org_id: &str, run_id: Uuid, after: i64) -> StoreResult<bool> {
        let found = self.runs.get(org_id, run_id).await?;
        if found.is_some_and(|detail| !detail.run.status.is_final()) {
            return Ok(false);
        }
        let page = self.events.run_feed(run_id, after, BatchSize { events: 1, ..PAGE }).await?;
        Ok(page.last <= after)
    }

    fn follow<S: Source + 'static>(self, source: S) -> impl Stream<Item = Read> + Send + 'static {
        let given = Instant::now();
        let read = VecDeque::new();
        let reading = Reading { feed: self, source, read, given, looked: None, ended: false };
        stream::try_unfold(reading, Reading::next)
    }
}

impl<S: Source> Reading<S> {
    /// The next item; `None` at the end.
    async fn next(mut self) -> StoreResult<Option<(Item, Self)>> {
        loop {
            if let Some(item) = self.read.pop_front() {
                self.given = Instant::now();
                self.ended = matches!(item, Item::End);
                return Ok(Some((item, self)));
            }
            if self.ended || self.feed.shutdown.is_cancelled() {
                return Ok(None);
            }
            if self.given.elapsed() >= self.feed.heartbeat {
                self.read.push_back(Item::Alive(self.source.place()));
                continue;
            }
            // The listener is there before the look, so that events in between are not missed.
            let listener = self.feed.wakeups.listen(self.source.topic());
            self.looked = Some(Instant::now());
            let more = self.source.look(&self.feed, &mut self.read).await?;
            if self.read.is_empty() && !more && !self.wait(listener).await {
                return Ok(None);
            }
        }
    }

    /// Waits for more; `false`: the service ends.
    async fn wait(&self, listener: Listener) -> bool {
        let patience = if self.feed.wakeups.arrive() { LOOK_AFTER } else { LOOK_ALONE };
        let left = self.feed.heartbeat.saturating_sub(self.given.elapsed());
        let breath = self.looked.unwrap_or(self.given) + BREATH;
        let waiting = async {
            listener.wait(patience.min(left)).await;
            tokio::time::sleep_until(breath).await;
        };
        self.feed.shutdown.run_until_cancelled(waiting).await.is_some()
    }
}

struct OfOrg {
    filter: FeedFilter,
    at: Position,
    /// The gap that is being passed was told.
    in_gap: bool,
}

impl Source for OfOrg {
    fn topic(&self) -> Topic {
        Topic::Events
    }

    fn place(&self) -> String {
        self.at.to_string()
    }

    async fn look(&mut self, feed: &Feed, read: &mut VecDeque<Item>) -> StoreResult<bool> {
        let page = feed.events.feed(&self.filter.org_id, self.at, PAGE).await?;
        if page.lost && !self.in_gap {
            read.push_back(Item::Gap(Gap::Unknown));
        }
        self.in_gap = page.lost;
        self.at = page.upto;
        let more = !page.events.is_empty();
        let wanted = page.events.into_iter().filter(|(_, event)| self.filter.wants(event));
        read.extend(wanted.map(|(at, event)| Item::Event(at.to_string(), Box::new(event))));
        Ok(more)
    }
}

struct OfRun {
    org_id: String,
    run_id: Uuid,
    at: i64,
}

impl Source for OfRun {
    fn topic(&self) -> Topic {
        Topic::Run(self.run_id)
    }

    fn place(&self) -> String {
        self.at.to_string()
    }

    async fn look(&mut self, feed: &Feed, read: &mut VecDeque<Item>) -> StoreResult<bool> {
        let run = feed.runs.get(&self.org_id, self.run_id).await?;
        let page = feed.events.run_feed(self.run_id, self.at, PAGE).await?;
        let upto = page.events.last().map_or(page.last, |event| event.run_seq);
        let first = page.events.first().map_or(page.last + 1, |event| event.run_seq);
        if first > self.at + 1 {
            read.push_back(Item::Gap(Gap::Numbers(self.at + 1, first - 1)));
        }
        self.at = self.at.max(upto);
        let events = page.events.into_iter();
        read.extend(events.map(|event| Item::Event(event.run_seq.to_string(), Box::new(event))));
        // It was over before its events were read, or it was removed.
        let is_over = run.is_none_or(|detail| detail.run.status.is_final());
        if self.at >= page.last && is_over {
            read.push_back(Item::End);
        }
        Ok(self.at < page.last)
    }
}
