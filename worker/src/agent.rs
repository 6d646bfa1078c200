//! The agent: recovers what was left, then takes runs, as many at a time as it may.
//!
//! A stop ends the running playbooks (SIGTERM, then SIGKILL) and reports them as interrupted: a
//! playbook cannot be handed over, and a service manager would kill it anyway.

use std::{collections::HashMap, fs::OpenOptions, io, path::PathBuf, sync::Arc, time::Duration};

use rustix::fs::{FlockOperation, flock};
use tokio::{
    sync::{Mutex, OwnedMutexGuard, watch},
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    backoff::Backoff,
    config::AgentConfig,
    crash,
    disk::Disk,
    doorbell,
    execute::{Context, execute},
    journal::{Journal, RunDirs, create_dir},
    link::{EventSink, LinkError, RunSource},
    recover,
};

/// How long to wait after the disk failed.
const DISK_PAUSE: Duration = Duration::from_secs(10);
/// How often is looked whether there is room again.
const ROOM_EVERY: Duration = Duration::from_secs(5);

/// The other side: where runs come from and their events go.
pub trait Link: RunSource + EventSink {}

impl<T: RunSource + EventSink + ?Sized> Link for T {}

/// What an agent is doing, for those who look.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Activity {
    /// How many runs are under way.
    pub runs: usize,
    /// Why nothing new is taken, where it is not.
    pub paused: Option<String>,
    /// Why the dispatcher is not heard, where it is not.
    pub away: Option<String>,
}

/// Why an agent cannot work at all.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Another agent has the directory.
    #[error("the work directory {0} is in use by another worker; give each its own")]
    InUse(PathBuf),
    /// The directory cannot be used.
    #[error("the work directory {path} cannot be used: {source}")]
    WorkDir {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Executes runs until told to stop.
///
/// # Errors
/// Where the work directory cannot be used; every later trouble is waited out.
pub async fn run(
    config: AgentConfig,
    link: Arc<dyn Link>,
    shutdown: CancellationToken,
) -> Result<(), AgentError> {
    run_watched(config, link, shutdown, watch::Sender::default()).await
}

/// The same, and says what it is doing.
///
/// # Errors
/// As [`run`].
pub async fn run_watched(
    mut config: AgentConfig,
    link: Arc<dyn Link>,
    shutdown: CancellationToken,
    activity: watch::Sender<Activity>,
) -> Result<(), AgentError> {
    let unusable = |path: PathBuf| move |source| AgentError::WorkDir { path, source };
    let given = config.work_dir.clone();
    create_dir(&given).map_err(unusable(given.clone()))?;
    // ansible-runner is started elsewhere, so the path must not depend on where we are.
    config.work_dir = std::fs::canonicalize(&given).map_err(unusable(given))?;
    let lock = config.work_dir.join("lock");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    let lock = options.open(lock).map_err(unusable(config.work_dir.clone()))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| AgentError::InUse(config.work_dir.clone()))?;
    let dirs = RunDirs::open(&config.work_dir).map_err(unusable(config.work_dir.clone()))?;
    let (at_a_time, activity) = (config.at_a_time, Arc::new(activity));
    let bell =
        doorbell::attend(Arc::clone(&link), at_a_time, Arc::clone(&activity), shutdown.clone());
    let answers = bell.answers.clone();
    let context =
        Context { config: Arc::new(config), link, dirs, bell: answers, shutdown, activity };
    tracing::info!(worker = %context.config.name, work_dir = %context.config.work_dir.display(), at_a_time, "worker ready");
    work(&context).await;
    Ok(())
}

async fn work(context: &Context) {
    while !context.shutdown.is_cancelled() {
        if let Err(error) = serve(context).await {
            tracing::error!(%error, "the work directory fails; everything in it is recovered before anything new");
            pause(context, tokio::time::sleep(DISK_PAUSE)).await;
        }
    }
}

/// Recovers, then takes runs until the end or until the disk fails. Returns when nothing is under
/// way any more.
async fn serve(context: &Context) -> io::Result<()> {
    let mut runs = Runs::of(context);
    let mut outcome = match recover::leftovers(context).await {
        Ok(left) => {
            left.into_iter().for_each(|(dir, journal)| {
                let (context, run_id) = (context.clone(), journal.run.run_id);
                runs.start(run_id, async move { recover::settle(&context, dir, journal).await });
            });
            take(context, &mut runs).await
        }
        Err(error) => Err(error),
    };
    while let Some(ended) = runs.next().await {
        outcome = outcome.and(ended);
    }
    outcome
}

/// The runs under way.
struct Runs {
    context: Context,
    tasks: JoinSet<io::Result<()>>,
    owners: Owners,
}

/// Who works on a run owns its directory.
#[derive(Default)]
struct Owners(HashMap<Uuid, Arc<Mutex<()>>>);

impl Owners {
    /// Ends when everybody who came for this run before has left it.
    fn turn(&mut self, run_id: Uuid) -> impl Future<Output = OwnedMutexGuard<()>> + Send + use<> {
        self.0.retain(|_, owner| Arc::strong_count(owner) > 1);
        let owner = Arc::clone(self.0.entry(run_id).or_default());
        // Now, where it is free, and not when somebody comes to wait: another may be faster.
        let own = Arc::clone(&owner).try_lock_owned();
        async move {
            match own {
                Ok(own) => own,
                Err(_) => owner.lock_owned().await,
            }
        }
    }
}

impl Runs {
    fn of(context: &Context) -> Self {
        Self { context: context.clone(), tasks: JoinSet::new(), owners: Owners::default() }
    }

    /// Begins a run. One whose claim was lost may come back under another while the loss is not
    /// noticed yet: it begins when the earlier one has left the directory.
    fn start(&mut self, run_id: Uuid, run: impl Future<Output = io::Result<()>> + Send + 'static) {
        let turn = self.owners.turn(run_id);
        self.tasks.spawn(async move {
            let _own = turn.await;
            run.await
        });
        self.note();
    }

    /// The end of the next one; nothing where there is none.
    async fn next(&mut self) -> Option<io::Result<()>> {
        let ended = self.tasks.join_next().await.map(flat);
        self.note();
        ended
    }

    /// Waits until one ends, for ever where there is none.
    async fn one_ended(&mut self) -> io::Result<()> {
        match self.next().await {
            Some(ended) => ended,
            None => std::future::pending().await,
        }
    }

    fn note(&self) {
        let runs = self.tasks.len();
        self.context
            .activity
            .send_if_modified(|known| std::mem::replace(&mut known.runs, runs) != runs);
    }
}

fn flat(joined: Result<io::Result<()>, JoinError>) -> io::Result<()> {
    joined.map_err(io::Error::other)?
}

async fn take(context: &Context, runs: &mut Runs) -> io::Result<()> {
    let at_a_time = usize::try_from(context.config.at_a_time).unwrap_or(1).max(1);
    let mut bell = context.bell.clone();
    let mut disk = Disk::of(&context.config);
    let mut backoff = Backoff::default();
    loop {
        while let Some(ended) = runs.tasks.try_join_next() {
            runs.note();
            flat(ended)?;
        }
        if context.shutdown.is_cancelled() {
            return Ok(());
        }
        let full = runs.tasks.len() >= at_a_time;
        let room = full || has_room(context, &mut disk).await;
        // What the bell says from here on is news.
        bell.mark_unchanged();
        let claimed = if full || !room {
            Ok(None)
        } else {
            context.link.claim(context.config.at_a_time).await
        };
        let wait = async {
            match claimed {
                Ok(Some(run)) => return Some(run),
                Ok(None) if !room => tokio::time::sleep(ROOM_EVERY).await,
                Ok(None) if full => std::future::pending().await,
                Ok(None) => {
                    backoff.reset();
                    while bell.changed().await.is_ok() && !bell.borrow_and_update().work {}
                }
                Err(error) => failed(&error, &mut backoff).await,
            }
            None
        };
        let next = tokio::select! {
            biased;
            next = wait => next,
            ended = runs.one_ended() => { ended?; None }
            () = context.shutdown.cancelled() => None,
        };
        if let Some(run) = next {
            crash::point("worker.claimed");
            tracing::info!(run.id = %run.run_id, attempt = run.attempt, "run claimed");
            backoff.reset();
            let (context, run_id) = (context.clone(), run.run_id);
            runs.start(run_id, async move { execute(&context, Journal::claimed(run)).await });
        }
    }
}

async fn failed(error: &LinkError, backoff: &mut Backoff) {
    match error {
        LinkError::Unavailable(_) => backoff.pause().await,
        // The doorbell says so.
        LinkError::KeyRefused(_) => backoff.slow_pause().await,
        error => {
            tracing::error!(%error, "no run can be claimed");
            backoff.pause().await;
        }
    }
}

/// Whether there is room for another run; says it when that changes.
async fn has_room(context: &Context, disk: &mut Disk) -> bool {
    let trouble = disk.trouble().await;
    let changed = context.activity.send_if_modified(|known| {
        let changed = known.paused != trouble;
        known.paused.clone_from(&trouble);
        changed
    });
    match &trouble {
        Some(why) if changed => tracing::warn!(why, "nothing new is taken"),
        None if changed => tracing::info!("there is room again; runs are taken"),
        _ => {}
    }
    trouble.is_none()
}

/// Waits, but not longer than the agent lives.
async fn pause(context: &Context, wait: impl Future<Output = ()>) {
    tokio::select! {
        () = wait => {}
        () = context.shutdown.cancelled() => {}
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_run_that_comes_back_begins_when_the_earlier_one_has_left() {
        let (mut owners, run, other) = (Owners::default(), Uuid::new_v4(), Uuid::new_v4());
        let first = owners.turn(run);
        let mut second = Box::pin(owners.turn(run));
        // Whoever looks first: it is not its turn.
        assert!(second.as_mut().now_or_never().is_none());
        let first = first.await;
        assert!(second.as_mut().now_or_never().is_none());
        assert!(owners.turn(other).now_or_never().is_some());
        drop(first);
        drop(second.await);
        assert!(owners.turn(run).now_or_never().is_some());
        assert!(owners.0.len() <= 2, "{}", owners.0.len());
    }
}
