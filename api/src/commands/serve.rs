//! `serve`: one instance of the service. Everything it shares with others is named by settings.

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::{Context as _, bail};
use clap::Args;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Mutex,
};

use super::{loops::Loops, opening, publishing, telemetry};
use crate::{
    app::{App, Parts},
    auth::feeding,
    config::{Settings, connector::ConnectorImpl, source::Source, values::ListenAddress},
    execution::local::LocalWorker,
    http::{
        listen::Listener,
        metrics, router,
        server::{self, Server},
    },
    storage::Objects,
};

/// Modules of the original's process; here they are always all there.
const MODULES: [&str; 3] = ["api", "validator", "response-consumer"];

/// How long whoever reads metrics at the end may take.
const PROBES_TIMEOUT: Duration = Duration::from_secs(1);

/// What `run` may be asked for.
#[derive(Args, Debug)]
pub(super) struct Modules {
    /// api, validator, response-consumer: accepted, since every instance does all of it.
    #[arg(short, long = "module", value_delimiter = ',')]
    modules: Vec<String>,
}

impl Modules {
    /// Refuses modules that nobody knows.
    ///
    /// # Errors
    /// When there is one.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        match self.modules.iter().find(|name| !MODULES.contains(&name.as_str())) {
            Some(unknown) => bail!("unknown module {unknown}; there are {}", MODULES.join(", ")),
            None => Ok(()),
        }
    }
}

/// Serves until a signal.
///
/// # Errors
/// When the settings are wrong, or something they name cannot be used.
pub(super) async fn run() -> anyhow::Result<ExitCode> {
    let mut source = Source::from_process();
    let database = opening::database(&mut source);
    let (settings, _) = Settings::checked(source, None)?;
    let database = database.context("no database is named")?;
    telemetry::start(settings.logging)?;
    let mut listeners = Vec::new();
    for address in &settings.http.listen {
        listeners.push(Listener::bind(address).await?);
    }
    let secret_keys = settings.secrets.secret_keys.clone();
    let app = App::new(Parts {
        stores: opening::open(&database).await?,
        objects: Objects::of(&settings.storage, &settings.tls, &settings.requests)?,
        secret_keys: secret_keys.context("DISPATCHER_SECRET_KEYS is required")?,
        more_services: Vec::new(),
        settings,
    })?;
    Instance::start(app, listeners).await?.until_signal().await;
    Ok(ExitCode::SUCCESS)
}

/// A running instance.
pub(super) struct Instance {
    app: App,
    server: Server,
    probes: Server,
    loops: Loops,
    signals: Signals,
    /// Where metrics and probes are.
    pub(super) metrics: Option<SocketAddr>,
}

impl Instance {
    /// Serves on the listeners and starts every loop.
    ///
    /// # Errors
    /// When the metrics port is taken, signals cannot be received, or the address of the broker
    /// cannot be understood.
    pub(super) async fn start(app: App, listeners: Vec<Listener>) -> anyhow::Result<Self> {
        let signals = Signals::receive()?;
        say_what_is_special(&app.settings);
        let handle: PrometheusHandle = metrics::install()?;
        let http = &app.settings.http;
        let probes = Listener::bind(&ListenAddress::Tcp(http.metrics)).await?;
        let address = probes.tcp_address();
        let probes = Server::start(vec![probes], metrics::router(&app, handle.clone()), http);
        let publisher = publishing::publisher(&app)?;
        let times = feeding::last_auth_ways(&app)?;
        // Before the first request, so that nobody who may call is refused.
        feeding::start(&app).await;
        // Likewise, so that a dispatch to it is not refused.
        let worker = LocalWorker::of(&app).await?;
        let server = Server::start(listeners, router::router(&app), http);
        let loops = Loops::start(&app, handle, worker, publisher, times);
        Ok(Self { app, server, probes, loops, signals, metrics: address })
    }

    /// Serves until SIGTERM or SIGINT, then drains. Requests and loops end side by side, within
    /// one graceful timeout.
    pub(super) async fn until_signal(self) {
        let graceful = self.app.settings.http.graceful_timeout;
        server::drain(&self.app, || self.signals.next()).await;
        let (served, ()) = tokio::join!(self.server.stop(graceful), self.loops.ended(graceful));
        if !served {
            tracing::warn!("requests under way were cut off after GRACEFUL_TIMEOUT");
        }
        self.probes.stop(PROBES_TIMEOUT).await;
        tracing::info!("ended");
    }
}

/// The signals that end an instance. Received from the start, so that none kills it.
struct Signals {
    terminate: Mutex<Signal>,
    interrupt: Mutex<Signal>,
}

impl Signals {
    fn receive() -> std::io::Result<Self> {
        Ok(Self {
            terminate: Mutex::new(signal(SignalKind::terminate())?),
            interrupt: Mutex::new(signal(SignalKind::interrupt())?),
        })
    }

    async fn next(&self) {
        let mut terminate = self.terminate.lock().await;
        let mut interrupt = self.interrupt.lock().await;
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    }
}

fn say_what_is_special(settings: &Settings) {
    if !settings.meaningless.is_empty() {
        let names = settings.meaningless.join(", ");
        tracing::warn!(names, "these settings are set and have no meaning here");
    }
    for service in settings.secrets.services.iter().filter(|service| !service.is_usable()) {
        let service = &service.service;
        tracing::warn!(
            service,
            "its key has other characters than letters and digits; no request can present it"
        );
    }
    if settings.connector.implementation == ConnectorImpl::Mock {
        tracing::warn!(
            "CLOUD_CONNECTOR_IMPL=mock: dispatches to foreign hosts are accepted and DELIVERED \
             TO NOBODY"
        );
    }
    if settings.dispatch.demo_mode {
        tracing::warn!("DEMO_MODE: every run has the zero correlation id");
    }
}
