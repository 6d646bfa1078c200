//! Brings a spool into the service: in order, in batches, again after every failure, and with a
//! sign of life while there is nothing to bring.

use std::{
    collections::HashSet,
    io::{self, SeekFrom},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use dispatcher_wire::{
    RunStatus,
    event::RunnerEvent,
    execution::{AppendReply, ClaimedRun, MAX_BATCH_EVENTS, MAX_BATCH_HOSTS, MAX_EVENTS_BYTES},
};
use time::OffsetDateTime;
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
    sync::watch,
    time::Instant,
};

use crate::{
    agent::Link,
    backoff::Backoff,
    link::LinkError,
    spool::{Progress, offset_of},
};

/// How often batches go while the playbook prints.
const SEND_EVERY: Duration = Duration::from_millis(200);
/// A batch of this size goes at once.
const FULL_BYTES: u64 = 512 * 1024;
/// How long the service may hear nothing.
const HEARTBEAT_EVERY: Duration = Duration::from_secs(15);
/// How often in a row the service may expect another record than it is sent.
const MAX_GAPS: u32 = 10;

/// What the service is known to have and want.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Seen {
    /// The record it expects next.
    pub(crate) next: u64,
    /// Whether it wants the run to be ended.
    pub(crate) cancel: bool,
}

/// How the delivery of a run's records ended.
#[derive(Debug, PartialEq)]
pub(crate) enum Delivered {
    /// The service has everything, and the run is in this state.
    Finished(RunStatus),
    /// The claim is not ours any more.
    NotYours,
    /// The service refused for good.
    Refused(String),
    /// The service was away for too long.
    GaveUp(String),
    /// The run was given up before its end.
    Abandoned,
}

/// Delivers the records of one run.
pub(crate) struct Uploader {
    link: Arc<dyn Link>,
    run: ClaimedRun,
    spool: PathBuf,
    base: u64,
    progress: watch::Receiver<Progress>,
    seen: watch::Sender<Seen>,
    give_up_at: OffsetDateTime,
    /// The record that is sent next, and where it is in the spool.
    next: u64,
    offset: u64,
    sent_at: Option<Instant>,
    gaps: u32,
    /// Whether the run is final at the service, which takes no more records.
    closed: bool,
}

enum Trouble {
    Link(LinkError),
    Disk(io::Error),
    Abandoned,
}

impl From<LinkError> for Trouble {
    fn from(error: LinkError) -> Self {
        Self::Link(error)
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl Uploader {
    /// Delivers from this spool, whose first record has that number.
    pub(crate) fn new(
        link: Arc<dyn Link>,
        run: ClaimedRun,
        (spool, base): (PathBuf, u64),
        progress: watch::Receiver<Progress>,
        give_up_at: OffsetDateTime,
    ) -> (Self, watch::Receiver<Seen>) {
        let (seen, receiver) = watch::channel(Seen { next: base, cancel: false });
        let uploader = Self {
            link,
            run,
            spool,
            base,
            progress,
            seen,
            give_up_at,
            next: base,
            offset: 0,
            sent_at: None,
            gaps: 0,
            closed: false,
        };
        (uploader, receiver)
    }

    /// Delivers until the spool is complete and the service has finished the run.
    pub(crate) async fn run(mut self) -> Delivered {
        let mut backoff = Backoff::default();
        loop {
            match self.step().await {
                Ok(Some(status)) => return Delivered::Finished(status),
                Ok(None) => backoff.reset(),
                Err(trouble) => {
                    if let Some(end) = self.cope(trouble, &mut backoff).await {
                        return end;
                    }
                }
            }
        }
    }

    async fn step(&mut self) -> Result<Option<RunStatus>, Trouble> {
        let progress = *self.progress.borrow_and_update();
        if self.closed && !progress.complete {
            self.progress.changed().await.map_err(|_| Trouble::Abandoned)?;
        } else if self.next < progress.next && !self.closed {
            self.send(progress).await?;
        } else if progress.complete {
            let status = self.link.finish(self.run.run_id, self.run.claim, self.next).await?;
            crate::crash::point("worker.finish_sent");
            return Ok(Some(status));
        } else {
            self.wait_for_more().await?;
        }
        Ok(None)
    }

    /// Waits for records; says that we are alive where none come.
    async fn wait_for_more(&mut self) -> Result<(), Trouble> {
        let heartbeat_at = self.sent_at.unwrap_or_else(Instant::now) + HEARTBEAT_EVERY;
        tokio::select! {
            changed = self.progress.changed() => changed.map_err(|_| Trouble::Abandoned),
            () = tokio::time::sleep_until(heartbeat_at) => self.append(&[], 0).await,
        }
    }

    async fn send(&mut self, progress: Progress) -> Result<(), Trouble> {
        if let Some(sent_at) = self.sent_at
            && !progress.complete
            && progress.bytes.saturating_sub(self.offset) < FULL_BYTES
        {
            tokio::time::sleep_until(sent_at + SEND_EVERY).await;
        }
        let end = self.progress.borrow().bytes;
        let (events, length) = self.read_batch(end).await?;
        self.append(&events, length).await?;
        crate::crash::point("worker.event_sent");
        Ok(())
    }

    async fn append(&mut self, events: &[RunnerEvent], length: u64) -> Result<(), Trouble> {
        let (run_id, claim) = (self.run.run_id, self.run.claim);
        self.sent_at = Some(Instant::now());
        let AppendReply { next_counter, cancel } =
            self.link.append(run_id, claim, self.next, events).await?;
        let before = self.next;
        let reached = before + events.len() as u64;
        if next_counter == reached {
            (self.next, self.offset, self.gaps) = (reached, self.offset + length, 0);
        } else if next_counter <= before && cancel {
            self.closed = true;
            self.next = next_counter;
        } else if next_counter == before {
            return Err(Trouble::Link(LinkError::Gap(next_counter)));
        } else {
            self.seek(next_counter).await?;
        }
        self.seen.send_replace(Seen { next: next_counter, cancel });
        Ok(())
    }

    /// The next records, as many as one request may carry.
    async fn read_batch(&self, end: u64) -> io::Result<(Vec<RunnerEvent>, u64)> {
        let mut file = File::open(&self.spool).await?;
        file.seek(SeekFrom::Start(self.offset)).await?;
        let most = end.saturating_sub(self.offset).min(MAX_EVENTS_BYTES as u64);
        let mut bytes = Vec::with_capacity(usize::try_from(most).unwrap_or_default());
        file.take(most).read_to_end(&mut bytes).await?;
        let (events, whole) = batch_of(&bytes)?;
        if events.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a record is longer than a request",
            ));
        }
        Ok((events, whole as u64))
    }

    /// Goes on from this record.
    async fn seek(&mut self, next: u64) -> Result<(), Trouble> {
        let (spool, lines) = (self.spool.clone(), next.checked_sub(self.base));
        let sought = tokio::task::spawn_blocking(move || {
            lines.map(|lines| offset_of(&spool, lines)).transpose()
        });
        let offset = sought.await.map_err(io::Error::other)??.flatten();
        let Some(offset) = offset else {
            let told = format!("it expects record {next}, which this worker does not have");
            return Err(Trouble::Link(LinkError::Refused(told)));
        };
        (self.next, self.offset) = (next, offset);
        Ok(())
    }

    /// Waits and lets the caller try again, or says how the delivery ends.
    async fn cope(&mut self, trouble: Trouble, backoff: &mut Backoff) -> Option<Delivered> {
        let error = match trouble {
            Trouble::Abandoned => return Some(Delivered::Abandoned),
            Trouble::Disk(error) => return Some(Delivered::Refused(error.to_string())),
            Trouble::Link(error) => error,
        };
        match error {
            LinkError::NotYours => return Some(Delivered::NotYours),
            LinkError::Refused(why) => return Some(Delivered::Refused(why)),
            LinkError::Gap(next) => {
                self.gaps += 1;
                if self.gaps > MAX_GAPS {
                    return Some(Delivered::Refused(format!(
                        "it expects record {next} again and again"
                    )));
                }
                let Err(trouble) = self.seek(next).await else { return None };
                return Box::pin(self.cope(trouble, backoff)).await;
            }
            LinkError::Unavailable(why) | LinkError::KeyRefused(why) => {
                if OffsetDateTime::now_utc() >= self.give_up_at {
                    return Some(Delivered::GaveUp(why));
                }
                tracing::debug!(run.id = %self.run.run_id, why, "the dispatcher is away; the records wait");
            }
        }
        backoff.pause().await;
        None
    }
}

/// The records at the beginning that one request may carry, and how many bytes they take. What comes
/// after the last line end is half a record.
fn batch_of(bytes: &[u8]) -> serde_json::Result<(Vec<RunnerEvent>, usize)> {
    let (mut events, mut length, mut hosts) = (Vec::new(), 0, HashSet::new());
    for line in bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
        if line.len() > 1 {
            let event: RunnerEvent = serde_json::from_slice(line)?;
            hosts.extend(event.hosts().map(str::to_owned));
            let is_full = events.len() == MAX_BATCH_EVENTS || hosts.len() > MAX_BATCH_HOSTS;
            if is_full && !events.is_empty() {
                break;
            }
            events.push(event);
        }
        length += line.len();
    }
    Ok((events, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line with counts of so many hosts, from this one on.
    fn stats(first: usize, count: usize) -> String {
        let hosts: serde_json::Map<_, _> =
            (first..first + count).map(|n| (format!("h{n}"), 1.into())).collect();
        let event = serde_json::json!({
            "event": "playbook_on_stats", "uuid": "u", "counter": 3, "start_line": 0,
            "end_line": 0, "event_data": {"processed": hosts},
        });
        format!("{event}\n")
    }

    #[test]
    fn requests_name_no_more_hosts_than_are_taken() {
        let lines = [stats(0, 3_000), stats(1_500, 3_000), stats(4_500, 501), stats(0, 1)];
        let whole = lines.concat();
        let (events, length) = batch_of(whole.as_bytes()).unwrap();
        assert_eq!((events.len(), length), (2, lines[0].len() + lines[1].len()));
        let (events, length) = batch_of(&whole.as_bytes()[length..]).unwrap();
        assert_eq!((events.len(), length), (2, lines[2].len() + lines[3].len()));
    }

    #[test]
    fn what_is_half_written_waits() {
        let (whole, half) = (stats(0, 1), stats(1, 1));
        let bytes = format!("\n{whole}{}", &half[..half.len() - 1]);
        let (events, length) = batch_of(bytes.as_bytes()).unwrap();
        assert_eq!((events.len(), length), (1, 1 + whole.len()));
        assert!(batch_of(b"").unwrap().0.is_empty());
    }
}
