//! A dispatcher that is a file: everything it knows is written before it answers, so that it
//! outlives a worker (and a test process) that is killed. It models claims as the service does.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use dispatcher_wire::{
    RunStatus,
    event::{EXECUTOR_ON_FAILED, PLAYBOOK_ON_STATS, RunnerEvent},
    execution::{AppendReply, ClaimedRun, Doorbell},
    inputs::RunInputs,
};
use dispatcher_worker::link::{EventSink, LinkError, RunSource};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

/// One run as the dispatcher knows it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Known {
    pub(crate) run: ClaimedRun,
    pub(crate) inputs: Option<RunInputs>,
    pub(crate) claims: u32,
    pub(crate) cancel: bool,
    pub(crate) records: Vec<RunnerEvent>,
    pub(crate) finished: Option<RunStatus>,
}

impl Known {
    pub(crate) fn log(&self) -> String {
        let mut log = String::new();
        self.records.iter().for_each(|event| event.append_output(&mut log));
        log
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        self.records.iter().map(|event| event.event.as_str()).collect()
    }

    /// Code and details of the executor's error.
    pub(crate) fn error(&self) -> Option<(String, String)> {
        let failed = self.records.iter().rfind(|event| event.event == EXECUTOR_ON_FAILED)?;
        let data = failed.event_data.clone()?;
        Some((data.crc_dispatcher_error_code?, data.crc_dispatcher_error_details?))
    }

    fn outcome(&self) -> RunStatus {
        if let Some((code, _)) = self.error() {
            return match code.as_str() {
                "DISPATCHER_CANCELED" => RunStatus::Canceled,
                "DISPATCHER_TIMEOUT" => RunStatus::Timeout,
                _ => RunStatus::Failure,
            };
        }
        let stats = self.records.iter().filter(|event| event.event == PLAYBOOK_ON_STATS);
        let mut data = stats.filter_map(|event| event.event_data.as_ref()).peekable();
        let known = data.peek().is_some();
        let bad = data.any(|data| {
            [&data.failures, &data.dark].into_iter().flatten().any(|counts| !counts.is_empty())
        });
        if known && !bad { RunStatus::Success } else { RunStatus::Failure }
    }
}

/// The dispatcher.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    file: PathBuf,
    known: Mutex<BTreeMap<Uuid, Known>>,
    /// Every call fails while this is set.
    pub(crate) away: AtomicBool,
    /// Every second append loses its answer while this is set.
    pub(crate) lossy: AtomicBool,
    /// How many calls failed for that.
    pub(crate) refused: AtomicU32,
    appends: AtomicU32,
    changed: tokio::sync::Notify,
}

impl Dispatcher {
    /// The one in this file, or a new one.
    pub(crate) fn open(file: &Path) -> Arc<Self> {
        let known = std::fs::read(file).ok();
        let known = known.map(|bytes| serde_json::from_slice(&bytes).unwrap()).unwrap_or_default();
        Arc::new(Self {
            file: file.to_owned(),
            known: Mutex::new(known),
            away: AtomicBool::default(),
            lossy: AtomicBool::default(),
            refused: AtomicU32::default(),
            appends: AtomicU32::default(),
            changed: tokio::sync::Notify::new(),
        })
    }

    /// Dispatches a playbook.
    pub(crate) fn dispatch(&self, url: &str, inputs: Option<RunInputs>, seconds: i64) -> Uuid {
        let run = ClaimedRun {
            run_id: Uuid::new_v4(),
            claim: Uuid::new_v4(),
            attempt: 1,
            correlation_id: Uuid::new_v4(),
            name: None,
            url: url.to_owned(),
            deadline: OffsetDateTime::now_utc() + time::Duration::seconds(seconds),
            has_inputs: inputs.is_some(),
        };
        let run_id = run.run_id;
        let (records, finished) = (Vec::new(), None);
        let known = Known { run, inputs, claims: 0, cancel: false, records, finished };
        self.change(|all| drop(all.insert(run_id, known)));
        run_id
    }

    pub(crate) fn cancel(&self, run_id: Uuid) {
        self.change(|all| all.get_mut(&run_id).unwrap().cancel = true);
    }

    /// Gives the run's claim to somebody else.
    pub(crate) fn take_away(&self, run_id: Uuid) {
        self.change(|all| all.get_mut(&run_id).unwrap().run.claim = Uuid::new_v4());
    }

    /// Ends a run as a cleaner does; no more records are taken.
    pub(crate) fn close(&self, run_id: Uuid, status: RunStatus) {
        self.change(|all| all.get_mut(&run_id).unwrap().finished = Some(status));
    }

    pub(crate) fn get(&self, run_id: Uuid) -> Known {
        self.known.lock().unwrap()[&run_id].clone()
    }

    /// Waits for something to be true of a run.
    #[track_caller]
    pub(crate) fn until(
        self: &Arc<Self>,
        run_id: Uuid,
        wanted: impl Fn(&Known) -> bool,
    ) -> impl Future<Output = Known> {
        let place = std::panic::Location::caller();
        let dispatcher = Arc::clone(self);
        async move {
            let wait = async {
                loop {
                    let changed = dispatcher.changed.notified();
                    let known = dispatcher.get(run_id);
                    if wanted(&known) {
                        return known;
                    }
                    changed.await;
                }
            };
            let waited = tokio::time::timeout(Duration::from_secs(180), wait).await;
            waited.unwrap_or_else(|_| panic!("{place}: it stays at {:?}", dispatcher.get(run_id)))
        }
    }

    /// Waits for the end of a run.
    #[track_caller]
    pub(crate) fn end_of(self: &Arc<Self>, run_id: Uuid) -> impl Future<Output = Known> {
        self.until(run_id, |known| known.finished.is_some())
    }

    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<Uuid, Known>) -> T) -> T {
        let mut known = self.known.lock().unwrap();
        let answer = change(&mut known);
        let new = self.file.with_extension("new");
        std::fs::write(&new, serde_json::to_vec(&*known).unwrap()).unwrap();
        std::fs::rename(&new, &self.file).unwrap();
        self.changed.notify_waiters();
        answer
    }

    fn reachable(&self) -> Result<(), LinkError> {
        if self.away.load(Ordering::SeqCst) {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return Err(LinkError::Unavailable("away".to_owned()));
        }
        Ok(())
    }

    fn bell(&self) -> Doorbell {
        let known = self.known.lock().unwrap();
        let live = || known.values().filter(|known| known.finished.is_none());
        Doorbell {
            work: live().any(|known| known.claims == 0),
            cancel: live().filter(|known| known.cancel).map(|known| known.run.run_id).collect(),
        }
    }
}

#[async_trait]
impl RunSource for Dispatcher {
    async fn wait(&self, at_most: Duration, _: u32) -> Result<Doorbell, LinkError> {
        self.reachable()?;
        let wait = async {
            loop {
                let changed = self.changed.notified();
                let bell = self.bell();
                if bell.work || !bell.cancel.is_empty() {
                    return bell;
                }
                changed.await;
            }
        };
        Ok(tokio::time::timeout(at_most, wait).await.unwrap_or_default())
    }

    async fn claim(&self, _: u32) -> Result<Option<ClaimedRun>, LinkError> {
        self.reachable()?;
        Ok(self.change(|all| {
            let mut free = all.values_mut().filter(|known| known.claims == 0);
            let known = free.find(|known| known.finished.is_none())?;
            known.claims += 1;
            Some(known.run.clone())
        }))
    }

    async fn inputs(&self, run_id: Uuid, claim: Uuid) -> Result<RunInputs, LinkError> {
        self.reachable()?;
        let known = self.get(run_id);
        if known.run.claim != claim {
            return Err(LinkError::NotYours);
        }
        Ok(known.inputs.unwrap())
    }
}

#[async_trait]
impl EventSink for Dispatcher {
    async fn append(
        &self,
        run_id: Uuid,
        claim: Uuid,
        first_counter: u64,
        events: &[RunnerEvent],
    ) -> Result<AppendReply, LinkError> {
        self.reachable()?;
        let first = usize::try_from(first_counter).unwrap();
        let size: usize =
            events.iter().map(|event| serde_json::to_vec(event).unwrap().len() + 1).sum();
        assert!(size <= dispatcher_wire::execution::MAX_EVENTS_BYTES);
        let reply = self.change(|all| {
            let known = all.get_mut(&run_id).filter(|known| known.run.claim == claim);
            let known = known.ok_or(LinkError::NotYours)?;
            let next = known.records.len();
            if known.finished.is_some() {
                return Ok(AppendReply { next_counter: next as u64, cancel: true });
            }
            if first > next {
                return Err(LinkError::Gap(next as u64));
            }
            known.records.extend(events.iter().skip(next - first).cloned());
            let cancel = known.cancel || OffsetDateTime::now_utc() >= known.run.deadline;
            Ok(AppendReply { next_counter: known.records.len() as u64, cancel })
        })?;
        let nth = self.appends.fetch_add(1, Ordering::SeqCst);
        if self.lossy.load(Ordering::SeqCst) && nth % 2 == 1 {
            return Err(LinkError::Unavailable("the answer was lost".to_owned()));
        }
        Ok(reply)
    }

    async fn finish(
        &self,
        run_id: Uuid,
        claim: Uuid,
        next_counter: u64,
    ) -> Result<RunStatus, LinkError> {
        self.reachable()?;
        self.change(|all| {
            let known = all.get_mut(&run_id).filter(|known| known.run.claim == claim);
            let known = known.ok_or(LinkError::NotYours)?;
            let next = known.records.len() as u64;
            if known.finished.is_none() && next != next_counter {
                return Err(LinkError::Gap(next));
            }
            Ok(*known.finished.get_or_insert(known.outcome()))
        })
    }
}
