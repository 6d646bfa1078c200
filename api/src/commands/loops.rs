//! What one instance does besides answering requests: loops that end with the process.

use std::{sync::Arc, time::Duration};

use auth_tracker::last_auth::Ways;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::task::TaskTracker;

use super::publishing;
use crate::{
    app::App,
    cleaner::{Cleaner, retention::Retention},
    events::publisher::Publisher,
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
    pub(super) fn start(
        app: &App,
        handle: PrometheusHandle,
        worker: Option<LocalWorker>,
        publisher: Option<Publisher>,
        times: Ways,
    ) -> Self {
        let tracker = TaskTracker::new();
        let shutdown = app.shutdown.clone();
        tracker.spawn(shutdown.clone().run_until_cancelled_owned(metrics::keep_up(handle)));
        let has_broker = app.settings.events.has_broker();
        let wakeups = app.wakeups.clone();
        let upkeep = app.stores.upkeep.clone();
        let cleaner = Cleaner::new(upkeep, app.settings.cleaner, has_broker, wakeups);
        let ending = shutdown.clone();
        tracker.spawn(async move { cleaner.run(ending).await });
        let own =
            Instance::of_this_process(ProcessKind::Api, app.settings.instance.name.as_deref());
        let draining = app.lifecycle.draining();
        let beating = app.heartbeat.clone();
        tracker.spawn(beating.keep(app.stores.instances.clone(), own, draining, shutdown.clone()));
        let retention = Retention::new(
            app.stores.retention.clone(),
            app.objects.clone(),
            app.settings.retention,
        );
        let (leases, ending) = (app.stores.leases.clone(), shutdown.clone());
        let name = publishing::process_name();
        tracker.spawn(async move { retention.run(leases, name, ending).await });
        if let Some(publisher) = publisher {
            let ending = shutdown.clone();
            tracker.spawn(async move { publisher.run(ending).await });
        }
        let (collector, ending) = (Arc::clone(&app.last_auth), shutdown.clone());
        tracker.spawn(async move { collector.run(times, ending).await });
        let applier = Applier::of(app);
        let ending = shutdown.clone();
        tracker.spawn(async move { applier.run(ending).await });
        tracker.spawn(shutdown.run_until_cancelled_owned(Shelf::of(app).keep_swept()));
        if let Some(remote) = app.remote() {
            tracker.spawn(remote.run(app.shutdown.clone()));
        }
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
