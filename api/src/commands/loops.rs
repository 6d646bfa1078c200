//! What one instance does besides answering requests: loops that end with the process.

use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::task::TaskTracker;

use crate::{
    app::App,
    cleaner::Cleaner,
    execution::local::LocalWorker,
    http::metrics,
    instances::model::{Instance, ProcessKind},
    playbooks::put::Shelf,
    uploads::applier::Applier,
};

/// Running loops.
#[derive(Debug)]
pub(super) struct Loops(TaskTracker);

impl Loops {
    /// Starts every loop.
    #[must_use]
    pub(super) fn start(app: &App, handle: PrometheusHandle, worker: Option<LocalWorker>) -> Self {
        let tracker = TaskTracker::new();
        let shutdown = app.shutdown.clone();
        tracker.spawn(shutdown.clone().run_until_cancelled_owned(metrics::keep_up(handle)));
        let cleaner = Cleaner::new(app.stores.upkeep.clone(), app.settings.cleaner);
        let ending = shutdown.clone();
        tracker.spawn(async move { cleaner.run(ending).await });
        let own =
            Instance::of_this_process(ProcessKind::Api, app.settings.instance.name.as_deref());
        let draining = app.lifecycle.draining();
        let beating = app.heartbeat.clone();
        tracker.spawn(beating.keep(app.stores.instances.clone(), own, draining, shutdown.clone()));
        let applier = Applier::of(app);
        let ending = shutdown.clone();
        tracker.spawn(async move { applier.run(ending).await });
        tracker.spawn(shutdown.run_until_cancelled_owned(Shelf::of(app).keep_swept()));
        if let Some(worker) = worker {
            tracker.spawn(worker.run(app.shutdown.clone()));
        }
        tracker.close();
        Self(tracker)
    }

    /// Waits until every loop has ended, at most this long.
    pub(super) async fn ended(&self, at_most: Duration) {
        if tokio::time::timeout(at_most, self.0.wait()).await.is_err() {
            tracing::warn!("background work was cut off after GRACEFUL_TIMEOUT");
        }
    }
}
