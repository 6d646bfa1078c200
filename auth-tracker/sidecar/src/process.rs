//! The process: signals, probes and metrics on a port of their own, and the order of its life.

use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use axum::{Router, extract::State, http::StatusCode, routing::get};
use dispatcher_api::{
    commands::telemetry,
    http::metrics,
    instances::{
        heartbeat::Heartbeat,
        model::{Instance, ProcessKind},
    },
};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Arguments, settings::TrackerSettings, supervisor::Supervisor, wiring};

/// How long everything beside the tracker may take to end.
const ENDING: Duration = Duration::from_secs(3);

/// Does what the command line says.
///
/// # Errors
/// When the settings are wrong, or something they name cannot be used.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let settings = TrackerSettings::read(arguments)?;
    telemetry::start(settings.logging)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        if arguments.once { once(&settings).await } else { until_signal(&settings).await }
    });
    // Work that blocks must not keep an ended process alive.
    runtime.shutdown_background();
    ended
}

/// Once, with everything there has to be.
async fn once(settings: &TrackerSettings) -> anyhow::Result<ExitCode> {
    let stores = dispatcher_api::store::postgres::PostgresStore::connect(&settings.database);
    let stores = stores.await.context("the database cannot be used")?;
    let tracker = wiring::tracker(settings, &stores, &own(settings))?;
    tracker.once().await.map_err(|problems| anyhow!(problems.join("; ")))?;
    Ok(ExitCode::SUCCESS)
}

/// Until SIGTERM or SIGINT; what is not there yet is waited for.
async fn until_signal(settings: &TrackerSettings) -> anyhow::Result<ExitCode> {
    let shutdown = ending()?;
    let supervisor = Arc::new(Supervisor::new());
    let tasks = TaskTracker::new();
    let handle = metrics::install()?;
    let address = settings.auth.tracker_metrics;
    let probes = probes(address, Arc::clone(&supervisor), handle.clone());
    tasks.spawn(probes.await?.serve(shutdown.clone()));
    tasks.spawn(shutdown.clone().run_until_cancelled_owned(metrics::keep_up(handle)));
    supervisor.is_ready();
    if let Some(stores) = wiring::stores(settings, &supervisor, &shutdown).await {
        let own = own(settings);
        let tracker = wiring::tracker(settings, &stores, &own)?;
        let heartbeat = Heartbeat::default();
        let beating = heartbeat.clone().keep(
            Arc::clone(&stores.instances),
            own,
            shutdown.clone(),
            shutdown.clone(),
        );
        tasks.spawn(beating);
        let turned = |status: &auth_tracker::tracker::Status| {
            heartbeat.auth_version(status.auth_version);
            supervisor.turned(status);
        };
        tracker.run(&shutdown, &turned).await;
    }
    supervisor.stops();
    tasks.close();
    if tokio::time::timeout(ENDING, tasks.wait()).await.is_err() {
        tracing::debug!("something beside the tracker was cut off");
    }
    tracing::info!("ended");
    Ok(ExitCode::SUCCESS)
}

fn own(settings: &TrackerSettings) -> Instance {
    Instance::of_this_process(ProcessKind::AuthTracker, settings.instance.name.as_deref())
}

/// Cancelled by the first SIGTERM or SIGINT.
fn ending() -> anyhow::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let shutdown = CancellationToken::new();
    let cancelled = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        cancelled.cancel();
    });
    Ok(shutdown)
}

/// The port with metrics and probes.
struct Probes {
    listener: TcpListener,
    router: Router,
}

async fn probes(
    address: SocketAddr,
    supervisor: Arc<Supervisor>,
    handle: PrometheusHandle,
) -> anyhow::Result<Probes> {
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address} for metrics; choose another TRACKER_METRICS_PORT")
    })?;
    tracing::info!(address = %listener.local_addr()?, "listening for metrics and probes");
    let render = move || std::future::ready(handle.render());
    let live = |State(supervisor): State<Arc<Supervisor>>| async move {
        probe(supervisor.stuck().into_iter().collect())
    };
    let ready =
        |State(supervisor): State<Arc<Supervisor>>| async move { probe(supervisor.missing()) };
    let router = Router::new()
        .route("/metrics", get(render))
        .route("/live", get(live))
        .route("/ready", get(ready))
        .with_state(supervisor);
    Ok(Probes { listener, router })
}

impl Probes {
    async fn serve(self, shutdown: CancellationToken) {
        let served = axum::serve(self.listener, self.router)
            .with_graceful_shutdown(shutdown.cancelled_owned());
        if let Err(error) = served.await {
            tracing::warn!(%error, "metrics and probes are not served any more");
        }
    }
}

fn probe(missing: Vec<String>) -> (StatusCode, String) {
    let status = if missing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, missing.iter().map(|line| format!("{line}\n")).collect())
}
