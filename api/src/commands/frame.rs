//! What a process has before it can serve: its listeners, its metrics port, its signals. Whatever it
//! needs from elsewhere may come up after it, in any order.

use std::{net::SocketAddr, time::Duration};

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::Mutex,
};
use tokio_util::sync::CancellationToken;

use super::signs;
use crate::{
    config::{Settings, values::ListenAddress},
    http::{
        listen::Listener,
        metrics,
        server::Server,
        waiting::{self, Waiting},
    },
    systemd,
};

/// Between two attempts to reach something that is not there: the first pause, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// A process that answers probes.
pub(super) struct Frame {
    pub(super) server: Server,
    pub(super) probes: Server,
    pub(super) handle: PrometheusHandle,
    pub(super) signals: Signals,
    /// Where metrics and probes are.
    pub(super) metrics: Option<SocketAddr>,
    /// Ends the signs of life.
    pub(super) ended: CancellationToken,
    waiting: Waiting,
}

impl Frame {
    /// Answers on the listeners and the metrics port that it waits, and gives signs of life.
    ///
    /// # Errors
    /// When the metrics port is taken, or signals cannot be received.
    pub(super) async fn raise(
        settings: &Settings,
        listeners: Vec<Listener>,
    ) -> anyhow::Result<Self> {
        let http = &settings.http;
        let signals = Signals::receive()?;
        let handle = metrics::install()?;
        let probes = Listener::bind(&ListenAddress::Tcp(http.metrics)).await?;
        let address = probes.tcp_address();
        let waiting = Waiting::begin();
        let router = waiting::metrics_router(waiting.clone(), &http.metrics_path, handle.clone());
        let probes = Server::start(vec![probes], router, http);
        let server = Server::start(listeners, waiting::router(waiting.clone()), http);
        let ended = CancellationToken::new();
        let watchdog = settings.process.watchdog;
        tokio::spawn(signs::alive(server.clone(), watchdog, ended.clone()));
        Ok(Self { server, probes, handle, signals, metrics: address, ended, waiting })
    }

    /// Tries until it is there, for ever; says so once for each reason. `passing` tells whether
    /// waiting may help.
    ///
    /// # Errors
    /// The error for which it does not.
    pub(super) async fn wait_for<T>(
        &self,
        name: &'static str,
        attempt: impl AsyncFn() -> anyhow::Result<T>,
        passing: impl Fn(&anyhow::Error) -> bool,
    ) -> anyhow::Result<T> {
        let mut pause = FIRST_PAUSE;
        let mut waited = false;
        loop {
            match attempt().await {
                Ok(there) => {
                    if waited {
                        tracing::info!(name, "what was waited for is there");
                    }
                    return Ok(there);
                }
                Err(error) if passing(&error) => {
                    let error = format!("{error:#}");
                    systemd::waiting(&format!("waiting for the {name}: {error}"));
                    if self.waiting.now_for(name, &error) {
                        tracing::warn!(name, error, "the start waits for it");
                    }
                    waited = true;
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// The signals that end an instance. Received from the start, so that none kills it.
pub(super) struct Signals {
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

    /// The next one.
    pub(super) async fn next(&self) {
        let mut terminate = self.terminate.lock().await;
        let mut interrupt = self.interrupt.lock().await;
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    }
}
