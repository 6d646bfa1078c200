//! The agent: recovers what was left, then takes one run after the other.
//!
//! One playbook at a time. A stop ends the running playbook (SIGTERM, then SIGKILL) and reports it
//! as interrupted: a playbook cannot be handed over, and a service manager would kill it anyway.

use std::{fs::OpenOptions, io, path::PathBuf, sync::Arc, time::Duration};

use rustix::fs::{FlockOperation, flock};
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::Backoff,
    config::AgentConfig,
    crash, doorbell,
    execute::{Context, execute},
    journal::{Journal, RunDirs, create_dir},
    link::{EventSink, LinkError, RunSource},
    recover::recover,
};

/// How long to wait after the disk failed.
const DISK_PAUSE: Duration = Duration::from_secs(10);

/// The other side: where runs come from and their events go.
pub trait Link: RunSource + EventSink {}

impl<T: RunSource + EventSink + ?Sized> Link for T {}

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
    mut config: AgentConfig,
    link: Arc<dyn Link>,
    shutdown: CancellationToken,
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
    let bell = doorbell::attend(Arc::clone(&link), shutdown.clone());
    let answers = bell.answers.clone();
    let context = Context { config: Arc::new(config), link, dirs, bell: answers, shutdown };
    tracing::info!(worker = %context.config.name, work_dir = %context.config.work_dir.display(), "worker ready");
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

async fn serve(context: &Context) -> io::Result<()> {
    recover(context).await?;
    let mut bell = context.bell.clone();
    let mut backoff = Backoff::default();
    while !context.shutdown.is_cancelled() {
        bell.mark_unchanged();
        match context.link.claim().await {
            Ok(Some(run)) => {
                crash::point("worker.claimed");
                tracing::info!(run.id = %run.run_id, attempt = run.attempt, "run claimed");
                backoff.reset();
                execute(context, Journal::claimed(run)).await?;
            }
            Ok(None) => {
                backoff.reset();
                pause(context, async {
                    while bell.changed().await.is_ok() && !bell.borrow_and_update().work {}
                })
                .await;
            }
            Err(error) => {
                if !matches!(error, LinkError::Unavailable(_)) {
                    tracing::error!(%error, "no run can be claimed");
                }
                pause(context, backoff.pause()).await;
            }
        }
    }
    Ok(())
}

/// Waits, but not longer than the agent lives.
async fn pause(context: &Context, wait: impl Future<Output = ()>) {
    tokio::select! {
        () = wait => {}
        () = context.shutdown.cancelled() => {}
    }
}
