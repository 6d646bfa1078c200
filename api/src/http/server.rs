//! The server: connections with limits, and the one drain (decision 17).
//!
//! After the signal, health fails and answers close their connections, while requests are still
//! taken for the drain delay. Then nothing is accepted any more, idle connections are closed,
//! streams are told to end, and requests under way have the graceful timeout.

use std::{
    future::Future,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use axum::{Router, body::Body, extract::Request};
use hyper::body::Incoming;
use hyper_util::{rt::TokioIo, rt::TokioTimer, service::TowerToHyperService};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;

use super::{
    listen::{Listener, Stream},
    peer::Peer,
    pulse::Pulse,
    unread::Unread,
};
use crate::{app::App, config::http::HttpSettings, systemd};

/// How long to wait when the system gives no connection, before asking again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What connections of one server share.
struct Connections {
    /// What answers the next request.
    router: RwLock<Router>,
    http: hyper::server::conn::http1::Builder,
    permits: Arc<Semaphore>,
    tasks: TaskTracker,
    /// No more connections, no more requests on those there are.
    closing: CancellationToken,
    pulse: Pulse,
}

/// A running server.
#[derive(Clone)]
pub struct Server(Arc<Connections>);

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("connections", &self.0.tasks.len()).finish()
    }
}

impl Server {
    /// Serves the router on the listeners from now on.
    #[must_use]
    pub fn start(listeners: Vec<Listener>, router: Router, settings: &HttpSettings) -> Self {
        let server = Self::of(router, settings);
        server.serve(listeners);
        server
    }

    /// A server without listeners.
    #[must_use]
    pub fn of(router: Router, settings: &HttpSettings) -> Self {
        let mut http = hyper::server::conn::http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(settings.header_timeout)
            .max_buf_size(settings.max_header_size);
        Self(Arc::new(Connections {
            router: RwLock::new(router),
            http,
            permits: Arc::new(Semaphore::new(settings.max_connections)),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            pulse: Pulse::default(),
        }))
    }

    /// Serves on these listeners, too.
    pub fn serve(&self, listeners: Vec<Listener>) {
        for listener in listeners {
            tracing::info!(%listener, "listening");
            self.0.tasks.spawn(accept(Arc::clone(&self.0), listener));
        }
    }

    /// From the next request on this router answers, also on connections that are there.
    pub fn answer_by(&self, router: Router) {
        *self.0.router.write().unwrap_or_else(PoisonError::into_inner) = router;
    }

    /// Whether every loop that accepts connections came by since the last call of this, or none is to
    /// any more.
    #[must_use]
    pub fn beats(&self) -> bool {
        self.0.pulse.beats() || self.0.closing.is_cancelled()
    }

    /// Accepts nothing any more and waits for requests under way, at most this long. `false`: some
    /// were cut off.
    pub async fn stop(&self, at_most: Duration) -> bool {
        self.0.closing.cancel();
        self.0.tasks.close();
        tokio::time::timeout(at_most, self.0.tasks.wait()).await.is_ok()
    }
}

/// Waits for the signal, or until the process has served `enough`, then drains: see the head of this
/// file. A second signal skips the delay.
/// Returns when nothing is to be accepted any more and streams have been told to end.
pub async fn drain<S>(app: &App, signal: impl Fn() -> S, enough: impl Future<Output = ()>)
where
    S: Future<Output = ()>,
{
    let settings = &app.settings.http;
    tokio::select! {
        () = signal() => {}
        () = enough => {
            tracing::info!(requests = app.lifecycle.most(), "as many requests as MAX_REQUESTS says");
        }
    }
    app.lifecycle.start_draining();
    systemd::stopping("draining");
    tracing::info!(delay_seconds = settings.drain_delay.as_secs_f64(), "draining");
    // Either way it goes on: the delay is over, or somebody is in a hurry.
    let _ = tokio::time::timeout(settings.drain_delay, signal()).await;
    app.shutdown.cancel();
}

async fn accept(connections: Arc<Connections>, listener: Listener) {
    let closing = connections.closing.clone();
    let (number, mut asked) = connections.pulse.join();
    let accepting = async {
        loop {
            let room = async {
                let permit = Arc::clone(&connections.permits).acquire_owned().await;
                (permit, listener.accept().await)
            };
            // Nothing is lost where it is asked in between: a connection is accepted or it is not.
            let (permit, accepted) = tokio::select! {
                room = room => room,
                Ok(()) = asked.changed() => {
                    connections.pulse.answer(number, *asked.borrow_and_update());
                    continue;
                }
            };
            let Ok(permit) = permit else { return };
            match accepted {
                Ok((stream, peer)) => {
                    let own = Arc::clone(&connections);
                    connections.tasks.spawn(async move {
                        serve(&own, stream, peer).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, %listener, "no connection could be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    let _ = closing.run_until_cancelled(accepting).await;
}

async fn serve(connections: &Connections, stream: Box<dyn Stream>, peer: Peer) {
    let service = tower::service_fn(|request: Request<Incoming>| {
        let router = connections.router.read().unwrap_or_else(PoisonError::into_inner).clone();
        let (parts, body) = request.into_parts();
        let body = Body::new(Unread::new(&parts.headers, body));
        let mut request = Request::from_parts(parts, body);
        request.extensions_mut().insert(peer);
        router.oneshot(request)
    });
    let service = TowerToHyperService::new(service);
    let connection = connections.http.serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = connections.closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "a connection ended badly");
    }
}
