//! Retention: what is older than its window goes, in small commits, one instance at a time.
//!
//! Every commit judges its rows again under their locks, so that a pass may be cut off anywhere, any
//! number may happen at once, and a run that is not final is never touched. The lease only keeps
//! instances from doing the same work.

use std::{sync::Arc, time::Duration};

use auth_tracker::ports::Leases;
use time::OffsetDateTime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    config::{retention::RetentionSettings, values::Age},
    events::model::Place,
    storage::{Objects, StorageError},
    store::{
        StoreError,
        retention::{Purge, Purged, RetentionStore},
    },
};

/// The name of the lease.
const LEASE: &str = "retention";
/// How long it lasts without being renewed.
const LEASE_TIME: Duration = Duration::from_secs(180);
/// How often it is renewed, or asked for.
const RENEWAL: Duration = Duration::from_secs(60);
/// Between two passes.
const INTERVAL: Duration = Duration::from_secs(3_600);
/// Rows that are looked at together, and runs or rows that are removed in one commit.
const BATCH: i64 = 500;
/// Runs whose output is removed in one commit: each may have many chunks.
const OUTPUTS_AT_ONCE: usize = 50;
/// Between two commits, so that others get their turn.
const PAUSE: Duration = Duration::from_millis(50);

/// Why a pass ended early. What was removed stays removed.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An object was not removed; the sweep of the uploads finds it later.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// What retention needs.
#[derive(Clone)]
pub struct Retention {
    store: Arc<dyn RetentionStore>,
    objects: Objects,
    settings: RetentionSettings,
}

impl std::fmt::Debug for Retention {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Retention").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// What one pass does, and how far an earlier one has looked at output.
#[derive(Clone, Copy, Debug)]
struct Pass {
    now: OffsetDateTime,
    purge: Purge,
    outputs_after: Option<Place>,
}

impl Retention {
    /// Ready to remove.
    #[must_use]
    pub fn new(
        store: Arc<dyn RetentionStore>,
        objects: Objects,
        settings: RetentionSettings,
    ) -> Self {
        Self { store, objects, settings }
    }

    /// Removes again and again, while this process has the right to, until its end. Without any
    /// window nothing is done.
    pub async fn run(&self, leases: Arc<dyn Leases>, name: String, shutdown: CancellationToken) {
        describe();
        if !self.settings.is_on() {
            return;
        }
        let holder = Uuid::new_v4();
        let removing = async {
            let (mut due, mut outputs_after) = (Instant::now(), None);
            loop {
                let held = leases.hold(LEASE, holder, &name, LEASE_TIME).await;
                if matches!(held, Ok(Some(_))) && Instant::now() >= due {
                    due = Instant::now() + INTERVAL;
                    self.note(self.pass(&mut outputs_after).await);
                }
                tokio::time::sleep(RENEWAL).await;
            }
        };
        let _ = shutdown.run_until_cancelled(removing).await;
        // If it is not given back, it ends by itself.
        let _ = tokio::time::timeout(PAUSE * 20, leases.release(LEASE, holder)).await;
    }

    /// One pass; output that an earlier one has looked at is not looked at again.
    async fn pass(&self, outputs_after: &mut Option<Place>) -> Result<Purged, RetentionError> {
        let now = OffsetDateTime::now_utc().truncate_to_microsecond();
        let mut pass = Pass { now, purge: Purge::Remove(now), outputs_after: *outputs_after };
        let purged = self.carry_out(&mut pass).await;
        *outputs_after = pass.outputs_after;
        purged
    }

    /// Everything whose time is over, once; with [`Purge::Count`] it is only counted.
    ///
    /// # Errors
    /// When a store fails.
    pub async fn once(&self, now: OffsetDateTime, count: bool) -> Result<Purged, RetentionError> {
        let now = now.truncate_to_microsecond();
        let purge = if count { Purge::Count } else { Purge::Remove(now) };
        self.carry_out(&mut Pass { now, purge, outputs_after: None }).await
    }

    async fn carry_out(&self, pass: &mut Pass) -> Result<Purged, RetentionError> {
        let mut purged = Purged::default();
        let RetentionSettings { output, runs, audit } = self.settings;
        if let Some(age) = runs {
            purged.add(self.runs(pass, age).await?);
            purged.add(self.uploads(pass, age).await?);
        }
        if let Some(age) = output {
            purged.add(self.outputs(pass, age).await?);
        }
        if let Some(age) = audit {
            purged.add(self.audit(pass, age).await?);
        }
        Ok(purged)
    }

    async fn runs(&self, pass: &Pass, age: Age) -> Result<Purged, RetentionError> {
        let (before, mut after, mut all) = (pass.now - age.duration(), None, Purged::default());
        loop {
            let found = self.store.final_runs(before, after, BATCH, false).await?;
            let Some(last) = found.last else { return Ok(all) };
            let purged = self.store.purge_runs(&found.ids, before, pass.purge).await?;
            all.add(self.finished(purged, pass).await?);
            after = Some(last);
        }
    }

    async fn outputs(&self, pass: &mut Pass, age: Age) -> Result<Purged, RetentionError> {
        let (before, mut all) = (pass.now - age.duration(), Purged::default());
        loop {
            let found = self.store.final_runs(before, pass.outputs_after, BATCH, true).await?;
            let Some(last) = found.last else { return Ok(all) };
            for ids in found.ids.chunks(OUTPUTS_AT_ONCE) {
                let purged = self.store.purge_output(ids, before, pass.purge).await?;
                all.add(self.finished(purged, pass).await?);
            }
            pass.outputs_after = Some(last);
        }
    }

    async fn uploads(&self, pass: &Pass, age: Age) -> Result<Purged, RetentionError> {
        let (before, mut all) = (pass.now - age.duration(), Purged::default());
        loop {
            let purged = self.store.purge_uploads(before, BATCH, pass.purge).await?;
            let last = pass.purge == Purge::Count || purged.uploads < BATCH.unsigned_abs();
            all.add(self.finished(purged, pass).await?);
            if last {
                return Ok(all);
            }
        }
    }

    async fn audit(&self, pass: &Pass, age: Age) -> Result<Purged, RetentionError> {
        let (before, mut all) = (pass.now - age.duration(), Purged::default());
        loop {
            let purged = self.store.purge_audit(before, BATCH, pass.purge).await?;
            let last = pass.purge == Purge::Count || purged.audit < BATCH.unsigned_abs();
            all.add(self.finished(purged, pass).await?);
            if last {
                return Ok(all);
            }
        }
    }

    /// After a commit: objects go, what went is counted, others get their turn.
    async fn finished(&self, mut purged: Purged, pass: &Pass) -> Result<Purged, RetentionError> {
        if pass.purge == Purge::Count {
            return Ok(purged);
        }
        for object in std::mem::take(&mut purged.objects) {
            self.objects.delete(&object).await?;
        }
        for (what, count) in rows(&purged) {
            metrics::counter!("dispatcher_retention_removed_total", "what" => what)
                .increment(count);
        }
        tokio::time::sleep(PAUSE).await;
        Ok(purged)
    }

    fn note(&self, outcome: Result<Purged, RetentionError>) {
        match outcome {
            Ok(purged) if purged == Purged::default() => {}
            Ok(purged) => {
                let Purged { outputs, runs, run_hosts, uploads, audit, .. } = purged;
                tracing::info!(outputs, runs, run_hosts, uploads, audit, "retention removed rows");
            }
            Err(error) => {
                metrics::counter!("dispatcher_retention_errors_total").increment(1);
                tracing::warn!(%error, "retention ended early; the next pass goes on");
            }
        }
    }
}

/// What went, by kind.
#[must_use]
pub fn rows(purged: &Purged) -> [(&'static str, u64); 5] {
    [
        ("output", purged.outputs),
        ("run", purged.runs),
        ("run_host", purged.run_hosts),
        ("upload", purged.uploads),
        ("audit", purged.audit),
    ]
}

fn describe() {
    metrics::describe_counter!(
        "dispatcher_retention_removed_total",
        "Rows that retention has removed."
    );
    metrics::describe_counter!(
        "dispatcher_retention_errors_total",
        "Passes of retention that ended early."
    );
    for (what, _) in rows(&Purged::default()) {
        metrics::counter!("dispatcher_retention_removed_total", "what" => what).absolute(0);
    }
    metrics::counter!("dispatcher_retention_errors_total").absolute(0);
}
