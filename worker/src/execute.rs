//! Executes one run, from its claim to its confirmed end.
//!
//! claim → journal → `executor_on_start` reported → inputs and playbook fetched → journal says
//! `Starting` → process at the gate → journal says `Started` → gate opened → … → ended.
//!
//! What is left running at the end: where the playbook ended by itself, Ansible's `async` tasks are
//! ended, since their run is over; other background processes that it left on purpose stay. Where
//! the run was ended from outside, nothing stays. Services started through systemd are not
//! processes of the run in either case.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use dispatcher_wire::{execution::Doorbell, inputs::RunInputs};
use futures_util::FutureExt;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    agent::{Activity, Link},
    ansible::Ansible,
    backoff::Backoff,
    cgroup::Cgroup,
    config::AgentConfig,
    crash,
    ending::{Ending, Stop, start_record},
    events::{self, Source, Summary},
    fetch::fetch,
    journal::{Journal, RunDir, RunDirs, Stage},
    link::LinkError,
    prepare::{Private, sweep_job_events},
    process::{Launch, Process},
    spool::Spool,
    stream::{Delivered, Seen, Uploader},
    tree::Members,
    verify::Claimed,
};

/// How often the event files of ansible-runner are removed.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// How long the last output may take to be read after the end of its processes.
const DRAIN_WITHIN: Duration = Duration::from_secs(10);
/// How often the wall clock is looked at: it may be set, and the machine may sleep.
const CLOCK_EVERY: Duration = Duration::from_secs(30);

/// What every run of an agent shares.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) config: Arc<AgentConfig>,
    pub(crate) link: Arc<dyn Link>,
    pub(crate) dirs: RunDirs,
    pub(crate) bell: watch::Receiver<Doorbell>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) activity: Arc<watch::Sender<Activity>>,
}

/// One run under way.
pub(crate) struct Execution {
    context: Context,
    dir: RunDir,
    journal: Journal,
    seen: watch::Receiver<Seen>,
    upload: AbortOnDropHandle<Delivered>,
}

/// Executes a run that was just claimed, or claimed before a crash and not started.
///
/// # Errors
/// Where the disk fails; the run's directory then stays for recovery.
pub(crate) async fn execute(context: &Context, journal: Journal) -> io::Result<()> {
    let dir = context.dirs.of(journal.run.run_id);
    dir.create(&journal)?;
    crash::point("worker.journaled");
    let mut spool = Spool::open(&dir.spool(), journal.spool_base)?;
    if spool.next() == 0 {
        spool.append(&start_record(journal.run.correlation_id))?;
    }
    spool.sync()?;
    let mut execution = Execution::begin(context, dir, journal, &spool);
    let (ending, spool) = execution.carry_out(spool).await?;
    execution.conclude(&ending, spool).await
}

impl Execution {
    /// Begins to deliver the spool.
    pub(crate) fn begin(context: &Context, dir: RunDir, journal: Journal, spool: &Spool) -> Self {
        let (uploader, seen) = Uploader::new(
            Arc::clone(&context.link),
            journal.run.clone(),
            (dir.spool(), journal.spool_base),
            spool.subscribe(),
            journal.run.deadline + context.config.report_for,
        );
        let upload = AbortOnDropHandle::new(tokio::spawn(uploader.run()));
        Self { context: context.clone(), dir, journal, seen, upload }
    }

    async fn carry_out(&mut self, spool: Spool) -> io::Result<(Ending, Spool)> {
        if let Err(stop) = self.start_reported().await {
            return Ok((Ending::Stopped(stop), spool));
        }
        crash::point("worker.start_reported");
        let prepared = tokio::select! {
            biased;
            stop = self.until_stopped() => Err(Ending::Stopped(stop)),
            prepared = self.prepare() => prepared,
        };
        match prepared {
            Ok((ansible, private, playbook)) => {
                self.play(&ansible, &private, &playbook, spool).await
            }
            Err(ending) => Ok((ending, spool)),
        }
    }

    /// Waits until the service knows that this worker starts the run.
    async fn start_reported(&self) -> Result<(), Stop> {
        let mut seen = self.seen.clone();
        tokio::select! {
            biased;
            stop = self.until_stopped() => Err(stop),
            known = seen.wait_for(|seen| seen.next > 0 && !seen.cancel) => {
                known.map(drop).map_err(|_| Stop::Lost)
            }
        }
    }

    /// Waits for a reason to end the run.
    async fn until_stopped(&self) -> Stop {
        let (mut seen, mut bell) = (self.seen.clone(), self.context.bell.clone());
        let run = &self.journal.run;
        tokio::select! {
            biased;
            told = seen.wait_for(|seen| seen.cancel) => match told {
                Ok(_) if OffsetDateTime::now_utc() >= run.deadline => Stop::TimedOut,
                Ok(_) => Stop::Canceled,
                Err(_) => Stop::Lost,
            },
            Ok(_) = bell.wait_for(|bell| bell.cancel.contains(&run.run_id)) => Stop::Canceled,
            () = until(run.deadline) => Stop::TimedOut,
            () = self.context.shutdown.cancelled() => Stop::WorkerStopped,
        }
    }

    /// Fetches what is needed and lays it out.
    async fn prepare(&self) -> Result<(Ansible, Private, PathBuf), Ending> {
        let config = &self.context.config;
        let ansible = Ansible::find(config.ansible_runner.as_deref()).map_err(Ending::failed)?;
        let disk =
            |error: io::Error| Ending::failed(format!("the run cannot be prepared: {error}"));
        let private = Private::create(self.dir.private()).map_err(disk)?;
        let inputs = self.inputs().await?;
        let claimed = Claimed {
            sha256: inputs.playbook_sha256.clone(),
            signature: inputs.playbook_signature.clone(),
        };
        let fetched = fetch(&self.journal.run.url, &private, config, claimed).await;
        let playbook = fetched.map_err(|error| Ending::Failed(error.code, error.why))?;
        private.write_inputs(&inputs).map_err(disk)?;
        Ok((ansible, private, playbook))
    }

    async fn inputs(&self) -> Result<RunInputs, Ending> {
        let run = &self.journal.run;
        if !run.has_inputs {
            return Ok(RunInputs::default());
        }
        let mut backoff = Backoff::default();
        loop {
            match self.context.link.inputs(run.run_id, run.claim).await {
                Ok(inputs) => return Ok(inputs),
                Err(LinkError::NotYours) => return Err(Ending::Stopped(Stop::Lost)),
                Err(LinkError::Unavailable(_)) => backoff.pause().await,
                Err(LinkError::KeyRefused(_)) => backoff.slow_pause().await,
                Err(error) => {
                    return Err(Ending::failed(format!("the inputs cannot be had: {error}")));
                }
            }
        }
    }

    /// Starts the playbook and follows it to its end.
    async fn play(
        &mut self,
        ansible: &Ansible,
        private: &Private,
        playbook: &std::path::Path,
        spool: Spool,
    ) -> io::Result<(Ending, Spool)> {
        let cgroup = Cgroup::planned(self.journal.run.run_id).filter(Cgroup::create);
        self.journal.stage = Stage::Starting;
        self.journal.cgroup = cgroup.as_ref().map(|cgroup| cgroup.path().to_owned());
        self.dir.save(&self.journal)?;
        crash::point("worker.starting");
        let spawned = Process::spawn(&Launch {
            run_id: self.journal.run.run_id,
            command: ansible.command(private.path(), &playbook.to_string_lossy()),
            environment: ansible.environment(&private.temporary()),
            folder: private.path(),
            cgroup: cgroup.as_ref(),
        });
        let mut process = match spawned {
            Ok(process) => process,
            Err(error) => {
                return Ok((
                    Ending::failed(format!("ansible-runner cannot be started: {error}")),
                    spool,
                ));
            }
        };
        crash::point("worker.spawned");
        self.journal.stage = Stage::Started;
        self.journal.process = Some(process.identity());
        self.dir.save(&self.journal)?;
        let followed = self.follow(&mut process, private, cgroup.clone(), spool).await;
        if let Some(cgroup) = cgroup {
            cgroup.remove();
        }
        followed
    }

    async fn follow(
        &self,
        process: &mut Process,
        private: &Private,
        cgroup: Option<Cgroup>,
        spool: Spool,
    ) -> io::Result<(Ending, Spool)> {
        let (chunks, pump) = process.pump();
        let mut pump = AbortOnDropHandle::new(pump);
        let mut reading = Reading::start(Source::new(chunks), spool, &self.context.config);
        let _sweeper = sweep(private.job_events());
        // Where the gate cannot be opened the process is gone, and its status says so.
        drop(process.release().await);
        let (stop, status) = tokio::select! {
            biased;
            stop = self.until_stopped() => (Some(stop), None),
            () = reading.failed() => (Some(Stop::Lost), None),
            status = process.wait() => (None, status.ok()),
        };
        let run_id = self.journal.run.run_id;
        let members = match stop {
            Some(_) => Members::all(run_id, cgroup),
            None => Members::async_tasks(run_id, cgroup),
        };
        let reaped = tokio::join!(members.end(self.context.config.grace), process.wait());
        tracing::debug!(run.id = %run_id, ?stop, ?status, left = reaped.0, "the processes of the run ended");
        if tokio::time::timeout(DRAIN_WITHIN, &mut pump).await.is_err() {
            tracing::warn!(run.id = %run_id, "a process of the run keeps its output open; reading ends");
            pump.abort();
        }
        let (summary, spool) = reading.finish().await?;
        Ok((ending(stop, status.and_then(|status| status.code()), &summary, &spool), spool))
    }

    /// Reports the end and removes everything, once the service has confirmed it.
    pub(crate) async fn conclude(mut self, ending: &Ending, mut spool: Spool) -> io::Result<()> {
        let run_id = self.journal.run.run_id;
        if *ending == Ending::Stopped(Stop::Lost) {
            let delivered = (&mut self.upload).now_or_never();
            tracing::error!(run.id = %run_id, ?delivered, "the run was ended and is not reported");
            return self.remove().await;
        }
        if self.journal.stage < Stage::Ended {
            if let Some(record) = ending.record() {
                spool.append(&record)?;
            }
            spool.sync()?;
            self.journal.stage = Stage::Ended;
            self.dir.save(&self.journal)?;
        }
        crash::point("worker.ended");
        let dir = self.dir.clone();
        tokio::task::spawn_blocking(move || dir.clear_private())
            .await
            .map_err(io::Error::other)??;
        spool.complete()?;
        let Some(delivered) = self.delivered().await else {
            tracing::warn!(run.id = %run_id, "the end of the run is reported at the next start");
            return Ok(());
        };
        match delivered {
            Delivered::Finished(status) => {
                tracing::info!(run.id = %run_id, %status, "run finished")
            }
            other => {
                tracing::error!(run.id = %run_id, outcome = ?other, "the run's end was not taken")
            }
        }
        self.remove().await?;
        crash::point("worker.removed");
        Ok(())
    }

    async fn remove(&self) -> io::Result<()> {
        let dir = self.dir.clone();
        tokio::task::spawn_blocking(move || dir.remove()).await.map_err(io::Error::other)?
    }

    /// Waits for the service, but not for long where the agent is being stopped.
    async fn delivered(&mut self) -> Option<Delivered> {
        let patience = async {
            self.context.shutdown.cancelled().await;
            tokio::time::sleep(self.context.config.stop_within).await;
        };
        tokio::select! {
            biased;
            delivered = &mut self.upload => delivered.ok(),
            () = patience => None,
        }
    }
}

fn ending(stop: Option<Stop>, code: Option<i32>, summary: &Summary, spool: &Spool) -> Ending {
    match stop {
        // It came to its own end first.
        Some(stop) if stop == Stop::Lost || !spool.has_stats() => Ending::Stopped(stop),
        _ => Ending::of_exit(code, spool.has_stats(), &summary.tail),
    }
}

/// The thread that reads the output.
struct Reading {
    handle: tokio::task::JoinHandle<(io::Result<Summary>, Spool)>,
    failed: CancellationToken,
}

impl Reading {
    fn start(source: Source, mut spool: Spool, config: &AgentConfig) -> Self {
        let (limits, failed) = (config.output.clone(), CancellationToken::new());
        let told = failed.clone();
        let handle = tokio::task::spawn_blocking(move || {
            let read = events::read(source, &mut spool, &limits);
            if read.is_err() {
                told.cancel();
            }
            (read, spool)
        });
        Self { handle, failed }
    }

    /// Waits until the spool cannot be written.
    async fn failed(&self) {
        self.failed.cancelled().await;
    }

    async fn finish(&mut self) -> io::Result<(Summary, Spool)> {
        let (read, spool) = (&mut self.handle).await.map_err(io::Error::other)?;
        Ok((read?, spool))
    }
}

fn sweep(folder: PathBuf) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            tokio::time::sleep(SWEEP_EVERY).await;
            let folder = folder.clone();
            // A sweep that fails is repeated; the run's end removes everything.
            drop(tokio::task::spawn_blocking(move || sweep_job_events(&folder)).await);
        }
    }))
}

async fn until(deadline: OffsetDateTime) {
    while let Ok(left) = Duration::try_from(deadline - OffsetDateTime::now_utc()) {
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(CLOCK_EVERY)).await;
    }
}
