//! What a process has before it can serve: its listeners, its metrics port, its signals. Whatever it
//! needs from elsewhere may come up after it, in any order.

use std::{future::Future, net::SocketAddr, pin::pin, sync::PoisonError, time::Duration};

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
        listen::{Bound, ListenError, Listener},
        metrics,
        server::Server,
        waiting::{self, Waiting},
    },
    systemd,
};

/// Between two attempts to reach something that is not there: the first pause, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// How long a start may take before callers are told of it. Until then their connections are refused.
const QUICK_START: Duration = Duration::from_secs(5);

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
    /// What the server is to listen on, until it does.
    bound: std::sync::Mutex<Vec<Bound>>,
}

impl Frame {
    /// Answers on the metrics port that it waits, and gives signs of life. Callers are refused until
    /// the service is there, or has to wait for something.
    ///
    /// # Errors
    /// When the metrics port is taken, or signals cannot be received.
    pub(super) fn raise(settings: &Settings, bound: Vec<Bound>) -> anyhow::Result<Self> {
        let http = &settings.http;
        let signals = Signals::receive()?;
        let handle = metrics::install()?;
        let probes = Listener::bind(&ListenAddress::Tcp(http.metrics))?;
        let address = probes.tcp_address();
        let waiting = Waiting::begin();
        let router = waiting::metrics_router(waiting.clone(), &http.metrics_path, handle.clone());
        let probes = Server::start(vec![probes], router, http);
        let server = Server::of(waiting::router(waiting.clone()), http);
        let ended = CancellationToken::new();
        let watchdog = settings.process.watchdog;
        tokio::spawn(signs::alive(server.clone(), watchdog, ended.clone()));
        let bound = std::sync::Mutex::new(bound);
        Ok(Self { server, probes, handle, signals, metrics: address, ended, waiting, bound })
    }

    /// From now on callers are answered.
    ///
    /// # Errors
    /// When somebody else began to listen on an address in between.
    pub(super) fn answer(&self) -> Result<(), ListenError> {
        let bound = std::mem::take(&mut *self.bound.lock().unwrap_or_else(PoisonError::into_inner));
        let listeners: Result<_, _> = bound.into_iter().map(Bound::listen).collect();
        self.server.serve(listeners?);
        Ok(())
    }

    /// What comes of a part of the start; callers are told of it where it takes long.
    ///
    /// # Errors
    /// As [`Frame::answer`].
    pub(super) async fn quickly<T>(&self, part: impl Future<Output = T>) -> Result<T, ListenError> {
        let mut part = pin!(part);
        if let Ok(done) = tokio::time::timeout(QUICK_START, part.as_mut()).await {
            return Ok(done);
        }
        self.answer()?;
        Ok(part.await)
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
            match self.quickly(attempt()).await? {
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
                    self.answer()?;
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
