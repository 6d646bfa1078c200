//! What is answered before the service can serve, because something that it needs is not there yet:
//! that it lives, that it is not ready and what is missing, and to come again.

use std::{
    future::ready,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;

use super::{health, json::JsonReply};

/// After how many seconds callers should come again.
const COME_AGAIN: HeaderValue = HeaderValue::from_static("2");

/// What is waited for: its name, and the reason.
#[derive(Clone, Debug)]
pub struct Waiting(Arc<Mutex<(&'static str, String)>>);

impl Waiting {
    /// From the start.
    #[must_use]
    pub fn begin() -> Self {
        Self(Arc::new(Mutex::new(("instance", "it is starting".to_owned()))))
    }

    /// From now on for this. `false`: that was known.
    #[must_use]
    pub fn now_for(&self, name: &'static str, reason: &str) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let news = known.0 != name || known.1 != reason;
        *known = (name, reason.to_owned());
        news
    }

    fn get(&self) -> (&'static str, String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The routes of the service meanwhile.
pub fn router(waiting: Waiting) -> Router {
    Router::new()
        .route("/health/live", get(health::live))
        .route("/health/ready", get(not_ready))
        .fallback(come_again)
        .with_state(waiting)
}

/// The routes of the metrics port meanwhile.
pub fn metrics_router(waiting: Waiting, path: &str, handle: PrometheusHandle) -> Router {
    let render = move || ready(handle.render());
    Router::new().route(path, get(render)).fallback(probe).with_state(waiting)
}

async fn not_ready(State(waiting): State<Waiting>) -> Response {
    let (name, reason) = waiting.get();
    health::not_ready(&[(name, reason)])
}

async fn probe(State(waiting): State<Waiting>) -> Response {
    let (name, reason) = waiting.get();
    (StatusCode::SERVICE_UNAVAILABLE, format!("{name}: {reason}\n")).into_response()
}

async fn come_again(State(waiting): State<Waiting>) -> Response {
    let (name, _) = waiting.get();
    let body = json!({
        "message": format!("the service is starting and waits for its {name}; come again"),
        "error_code": "starting",
    });
    let mut answer = JsonReply(StatusCode::SERVICE_UNAVAILABLE, body).into_response();
    answer.headers_mut().insert(header::RETRY_AFTER, COME_AGAIN);
    answer
}
