//! Applying uploads: claimed from the inbox, read on a thread of their own, applied or rejected.
//!
//! Any number of instances do this at once. An upload whose instance dies, or whose stores fail, is
//! claimed again when its lease is over; the inbox gives up after a few attempts.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use dispatcher_worker::crash;
use futures_util::TryStreamExt as _;
use time::OffsetDateTime;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    counting::{self, Kind},
    decode::Invalid,
    model::{ApplyOutcome, ClaimedUpload, Update},
    receive::{Inbox, ReceiveError},
    update,
};
use crate::{
    app::App,
    bus::{Topic, Wakeups},
    config::{dispatch::DispatchSettings, uploads::UploadSettings},
    storage::{Objects, StorageError},
    store::{RunStore, StoreError, StoreResult, UploadStore},
};

/// How often the inbox is looked at without a wake-up.
const POLL: Duration = Duration::from_secs(1);
/// How long an upload rests whose stores were away.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// How often leftovers are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// How old an archive without a row must be: far older than any request that may still add one.
const LEFTOVER_AGE: time::Duration = time::Duration::hours(24);

/// Why an upload could not be applied now. It is tried again.
#[derive(Debug, thiserror::Error)]
enum ApplyError {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("reading an archive ended in a panic: {0}")]
    Panicked(#[from] JoinError),
}

/// Why an upload is set aside.
struct Refusal {
    why: Invalid,
    /// How that is counted; those of blocked organisations are dropped without a word.
    counts: Option<Kind>,
}

impl ApplyError {
    /// Counts it as what failed.
    fn count(&self) {
        match self {
            Self::Storage(_) => counting::not_fetched(),
            Self::Store(_) => counting::not_applied(),
            Self::Panicked(_) => {}
        }
    }

    /// Whether a store was away, as opposed to an upload that nobody can apply.
    fn is_not_its_fault(&self) -> bool {
        matches!(self, Self::Storage(_) | Self::Store(StoreError::Unavailable(_)))
    }
}

/// What applying needs.
#[derive(Clone)]
pub struct Applier {
    /// The inbox.
    pub uploads: Arc<dyn UploadStore>,
    /// The runs they are about.
    pub runs: Arc<dyn RunStore>,
    /// The archives.
    pub objects: Objects,
    /// Who waits for runs and uploads.
    pub wakeups: Wakeups,
    /// Limits.
    pub settings: UploadSettings,
    /// Which organisations are blocked.
    pub dispatch: DispatchSettings,
}

impl Applier {
    /// That of one process.
    #[must_use]
    pub fn of(app: &App) -> Self {
        Self {
            uploads: app.stores.uploads.clone(),
            runs: app.stores.runs.clone(),
            objects: app.objects.clone(),
            wakeups: app.wakeups.clone(),
            settings: app.settings.uploads.clone(),
            dispatch: app.settings.dispatch.clone(),
        }
    }

    /// Applies uploads until the end of the process; those under way then are finished.
    pub async fn run(&self, shutdown: CancellationToken) {
        let sweeping =
            tokio::spawn(shutdown.clone().run_until_cancelled_owned(self.clone().sweep()));
        let mut under_way = JoinSet::new();
        while !shutdown.is_cancelled() {
            let news = self.wakeups.listen(Topic::Uploads);
            if under_way.len() < self.settings.concurrency
                && let Some(claimed) = self.claim().await
            {
                under_way.spawn(self.clone().handle(claimed));
                continue;
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                Some(done) = under_way.join_next() => note_panic(done),
                _ = news.wait(POLL) => {}
            }
        }
        while let Some(done) = under_way.join_next().await {
            note_panic(done);
        }
        note_panic(sweeping.await.map(drop));
    }

    /// The next upload, if there is one. A failure is logged and counts as none.
    async fn claim(&self) -> Option<ClaimedUpload> {
        let now = OffsetDateTime::now_utc().truncate_to_microsecond();
        let claimed = self.uploads.claim(Uuid::new_v4(), now, self.settings.lease).await;
        claimed.unwrap_or_else(|error| {
            tracing::warn!(%error, "the inbox cannot be looked at; it is tried again");
            None
        })
    }

    async fn handle(self, claimed: ClaimedUpload) {
        crash::point("upload.claimed");
        let upload = &claimed.upload;
        match self.settle(&claimed).await {
            Ok(outcome) => {
                metrics::counter!("dispatcher_uploads_total", "outcome" => outcome).increment(1);
                tracing::info!(upload.id = %upload.id, org_id = upload.org_id, outcome, "upload");
            }
            Err(error) => {
                metrics::counter!("dispatcher_uploads_total", "outcome" => "failed").increment(1);
                error.count();
                let (id, attempt) = (upload.id, upload.attempt);
                tracing::warn!(upload.id = %id, attempt, %error, "an upload is tried again");
                if error.is_not_its_fault() {
                    self.put_back(&claimed).await;
                }
            }
        }
    }

    /// Gives an upload back that could not be read or written for want of a store, however long that
    /// lasts. Where the database is away too, the lease ends.
    async fn put_back(&self, claimed: &ClaimedUpload) {
        let from = OffsetDateTime::now_utc().truncate_to_microsecond() + AGAIN_AFTER;
        if let Err(error) = self.uploads.put_back(claimed, from).await {
            let id = claimed.upload.id;
            tracing::warn!(upload.id = %id, %error, "it is tried again when its lease is over");
        }
    }

    /// Applies or rejects an upload; says which.
    async fn settle(&self, claimed: &ClaimedUpload) -> Result<&'static str, ApplyError> {
        let update = match self.read(claimed).await? {
            Ok(update) => Arc::new(update),
            Err(refusal) => return self.reject(claimed, &refusal).await,
        };
        let kind = Kind::of(&update);
        if let Err(why) = self.belongs(claimed, &update).await? {
            return self.reject(claimed, &Refusal { why, counts: Some(kind) }).await;
        }
        crash::point("upload.before_apply");
        let now = OffsetDateTime::now_utc().truncate_to_microsecond();
        let outcome = self.uploads.apply(claimed, &update, now).await?;
        crash::point("upload.applied");
        counting::settled(kind, outcome);
        if let Some(run_id) = claimed.upload.run_id {
            self.wakeups.wake(Topic::Run(run_id));
        }
        self.wakeups.wake(Topic::Events);
        if outcome != ApplyOutcome::NotYours
            && let Err(error) = self.objects.delete(&claimed.upload.object).await
        {
            let id = claimed.upload.id;
            tracing::warn!(upload.id = %id, %error, "an applied archive stays until the next sweep");
        }
        Ok(match outcome {
            ApplyOutcome::Applied => "applied",
            ApplyOutcome::OutOfDate => "out_of_date",
            ApplyOutcome::NoRun => "no_run",
            ApplyOutcome::NotYours => "lost",
        })
    }

    async fn reject(
        &self,
        claimed: &ClaimedUpload,
        Refusal { why: Invalid(reason), counts }: &Refusal,
    ) -> Result<&'static str, ApplyError> {
        if !self.uploads.reject(claimed, reason).await? {
            return Ok("lost");
        }
        if let Some(kind) = counts {
            counting::invalid(*kind);
        }
        Ok("invalid")
    }

    /// What the archive says. Archives are as small as uploads may be, so one is read whole; what
    /// it opens to is not.
    async fn read(&self, claimed: &ClaimedUpload) -> Result<Result<Update, Refusal>, ApplyError> {
        let uncounted = |why: &str| Ok(Err(Refusal { why: Invalid(why.to_owned()), counts: None }));
        if self.dispatch.is_blocked(&claimed.upload.org_id) {
            return uncounted("the organisation is blocked");
        }
        let Some(reading) = self.objects.read(&claimed.upload.object).await? else {
            // Where the whole store is away, so is every archive.
            self.objects.check().await.map_err(StorageError::from)?;
            counting::not_fetched();
            return uncounted("its archive is not in the object store");
        };
        let archive: BytesMut = reading.pieces.try_collect().await?;
        let (opening, keeping) = (self.settings.opening, self.settings.keeping);
        let read = move || {
            update::from_archive(&archive, &opening, &keeping).map_err(|why| {
                let counts = Some(update::kind(&archive, &opening));
                Refusal { why, counts }
            })
        };
        Ok(tokio::task::spawn_blocking(read).await?)
    }

    /// Whether the events are those of the run that the upload's token is bound to.
    async fn belongs(
        &self,
        claimed: &ClaimedUpload,
        update: &Update,
    ) -> StoreResult<Result<(), Invalid>> {
        let Some(run_id) = claimed.upload.run_id else { return Ok(Ok(())) };
        let correlation_id = update.correlation_id();
        let found = self.runs.get(&claimed.upload.org_id, run_id).await?;
        Ok(match found {
            Some(detail) if detail.run.correlation_id == correlation_id => Ok(()),
            Some(_) => Err(Invalid(format!(
                "its token is that of run {run_id}, its events are another run's (correlation id \
                 {correlation_id})"
            ))),
            None => Err(Invalid(format!("its token is that of run {run_id}, which is not there"))),
        })
    }

    async fn sweep(self) {
        let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
        loop {
            ticks.tick().await;
            match self.sweep_once(OffsetDateTime::now_utc() - LEFTOVER_AGE).await {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, "archives that no upload needs are removed"),
                Err(error) => tracing::warn!(%error, "leftovers of uploads were not removed"),
            }
        }
    }

    /// Removes archives older than `before` that nothing needs.
    ///
    /// # Errors
    /// When a store fails.
    pub async fn sweep_once(&self, before: OffsetDateTime) -> Result<u64, ReceiveError> {
        let inbox = Inbox {
            objects: &self.objects,
            uploads: self.uploads.as_ref(),
            wakeups: &self.wakeups,
            max_size: self.settings.max_size,
        };
        inbox.sweep(before).await
    }
}

fn note_panic(done: Result<(), JoinError>) {
    if let Err(error) = done {
        tracing::error!(%error, "a task of the uploads' applier ended badly");
    }
}
