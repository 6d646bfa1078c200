//! The output of a run as a stream of bounded slices, so far or to its end. Bytes are passed on as
//! stored; at no time is more than one slice in memory.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use dispatcher_wire::RunStatus;
use futures_util::{Stream, stream};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::model::LogSlice;
use crate::{
    bus::{Listener, Topic, Wakeups},
    execution::model::WorkState,
    store::{RunStore, StoreResult},
};

/// The most that is read at once, in bytes.
const SLICE: usize = 256 * 1024;
/// How long a follower trusts in being woken before it looks by itself: new output is shown within a
/// second although a wake-up is lost.
const LOOK_AFTER: Duration = Duration::from_secs(1);
/// The same while wake-ups of other instances do not arrive.
const LOOK_ALONE: Duration = Duration::from_millis(500);

/// What reading logs needs of the service.
#[derive(Clone)]
pub struct LogReader {
    /// Where output is.
    pub runs: Arc<dyn RunStore>,
    /// Tells of new output.
    pub wakeups: Wakeups,
    /// Ends followers when the service ends.
    pub shutdown: CancellationToken,
}

/// Whose output is wanted, from where, until when.
#[derive(Clone, Debug)]
pub struct LogRequest {
    /// The run's organisation.
    pub org_id: String,
    /// Only runs of these services; empty means every one.
    pub services: Vec<String>,
    /// The run.
    pub run_id: Uuid,
    /// One of its hosts; `None`: the run as a whole.
    pub host: Option<String>,
    /// The first byte.
    pub from: u64,
    /// Whether to go on until the run is final.
    pub follow: bool,
}

/// What there is to read.
pub enum Opened<S> {
    /// No such run in the organisation.
    NoRun,
    /// The run has no such host.
    NoHost,
    /// The run is in this state, and prints this.
    Output(RunStatus, S),
}

impl LogReader {
    /// Looks for the run and begins to read.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn open(
        self,
        request: LogRequest,
    ) -> StoreResult<Opened<impl Stream<Item = StoreResult<Bytes>> + Send + 'static>> {
        let found = self.runs.get(&request.org_id, request.run_id).await?;
        let found = found.filter(|detail| detail.run.is_of_services(&request.services));
        let Some(detail) = found else { return Ok(Opened::NoRun) };
        // PostgreSQL cannot even be asked for a text with NUL.
        if request.host.as_ref().is_some_and(|host| host.contains('\0')) {
            return Ok(Opened::NoHost);
        }
        let status = detail.run.status_at(OffsetDateTime::now_utc());
        let listener = self.wakeups.listen(Topic::Run(request.run_id));
        let expires_at = detail.run.expires_at();
        let reading = Reading {
            at: request.from,
            first: None,
            ended: false,
            expires_at,
            request,
            reader: self,
        };
        let Some(first) = reading.read().await? else { return Ok(Opened::NoHost) };
        let reading = Reading { first: Some((listener, first)), ..reading };
        Ok(Opened::Output(status, stream::try_unfold(reading, Reading::next)))
    }
}

/// How far a reader has come.
struct Reading {
    reader: LogReader,
    request: LogRequest,
    at: u64,
    /// What was read before the stream began, with the listener taken before that.
    first: Option<(Listener, LogSlice)>,
    ended: bool,
    /// When the run's time is over.
    expires_at: OffsetDateTime,
}

impl Reading {
    async fn read(&self) -> StoreResult<Option<LogSlice>> {
        let LogRequest { org_id, run_id, host, .. } = &self.request;
        self.reader.runs.read_log(org_id, *run_id, host.as_deref(), self.at, SLICE).await
    }

    /// The next bytes; `None` at the end.
    async fn next(mut self) -> StoreResult<Option<(Bytes, Self)>> {
        let stops = self.request.follow.then(|| self.reader.shutdown.clone());
        while !self.ended && !stops.as_ref().is_some_and(CancellationToken::is_cancelled) {
            // The listener is there before the look, so that output in between is not missed.
            let (listener, slice) = match self.first.take() {
                Some(first) => first,
                None => {
                    let listener = self.reader.wakeups.listen(Topic::Run(self.request.run_id));
                    let Some(slice) = self.read().await? else { return Ok(None) };
                    (listener, slice)
                }
            };
            self.ended = slice.complete;
            if !slice.bytes.is_empty() {
                self.at += slice.bytes.len() as u64;
                return Ok(Some((slice.bytes.into(), self)));
            }
            let done = self.ended || !self.request.follow || self.is_over().await?;
            if done || !self.wait(listener).await {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// Whether the run's time is over and nobody is at it, so that nothing more is to come, although
    /// the cleaner has not been there yet. What our worker has begun it also ends.
    async fn is_over(&self) -> StoreResult<bool> {
        if OffsetDateTime::now_utc() < self.expires_at {
            return Ok(false);
        }
        let found = self.reader.runs.get(&self.request.org_id, self.request.run_id).await?;
        let work = found.and_then(|detail| detail.work);
        Ok(work.is_none_or(|work| work.state != WorkState::Started))
    }

    /// Waits for more; `false`: the service ends.
    async fn wait(&self, listener: Listener) -> bool {
        let look_after = if self.reader.wakeups.arrive() { LOOK_AFTER } else { LOOK_ALONE };
        tokio::select! {
            () = self.reader.shutdown.cancelled() => false,
            _woken = listener.wait(look_after) => true,
        }
    }
}
