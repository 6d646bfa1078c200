//! Probes and versions.

use std::time::Duration;

use axum::{
    extract::{RawQuery, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::json::JsonReply;
use crate::app::App;

/// `GET /health/live`: the process runs.
pub async fn live() -> Response {
    JsonReply(StatusCode::OK, json!({ "status": "live" })).into_response()
}

/// `GET /health/ready`: whether requests should come here, and what is missing.
pub async fn ready(State(app): State<App>) -> Response {
    let missing = missing(&app).await;
    if missing.is_empty() {
        return JsonReply(StatusCode::OK, json!({ "status": "ready" })).into_response();
    }
    not_ready(&missing)
}

/// The answer that names what is missing.
pub(super) fn not_ready(missing: &[Missing]) -> Response {
    let missing: Vec<_> =
        missing.iter().map(|(name, reason)| json!({ "name": name, "reason": reason })).collect();
    let body = json!({ "status": "not_ready", "missing": missing });
    JsonReply(StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}

/// `HEAD` and `GET /api/v1/`: name and version, for load balancers; fails while draining.
pub async fn root(State(app): State<App>) -> Response {
    let draining = app.lifecycle.is_draining();
    let status = if draining { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let body = json!({ "name": "dispatcher-api", "version": env!("CARGO_PKG_VERSION") });
    JsonReply(status, body).into_response()
}

/// `GET /internal/version`: the commit of the build, as a bare JSON string, which is the contract's.
/// With `?full=true` an object that also says how the server is limited, and by which setting.
pub async fn version(State(app): State<App>, RawQuery(query): RawQuery) -> Response {
    if query.as_deref() == Some("full=true") {
        return JsonReply(StatusCode::OK, full_version(&app)).into_response();
    }
    JsonReply(StatusCode::OK, &app.settings.build.commit).into_response()
}

fn full_version(app: &App) -> serde_json::Value {
    let server = app.settings.server.iter().map(|one| {
        let member = json!({ "value": one.value, "origin": one.origin });
        (one.name.to_ascii_lowercase(), member)
    });
    let server: serde_json::Map<_, _> = server.collect();
    json!({
        "commit": app.settings.build.commit,
        "version": env!("CARGO_PKG_VERSION"),
        "server": server,
        "ends_after_requests": app.lifecycle.most(),
    })
}

/// `GET /live` of the metrics port: 200 without a body, or 503 with the reason as text.
pub async fn probe_live(State(app): State<App>) -> Response {
    probe(database(&app).await.into_iter().collect())
}

/// `GET /ready` of the metrics port: the same, and it fails while draining.
pub async fn probe_ready(State(app): State<App>) -> Response {
    probe(missing(&app).await)
}

/// How long something may take to answer a probe, which must answer itself.
const PROBE_WITHIN: Duration = Duration::from_secs(2);
const NO_ANSWER: &str = "it does not answer in time";

pub(super) type Missing = (&'static str, String);

fn probe(missing: Vec<Missing>) -> Response {
    if missing.is_empty() {
        return StatusCode::OK.into_response();
    }
    let lines: Vec<String> =
        missing.iter().map(|(name, reason)| format!("{name}: {reason}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, lines.concat()).into_response()
}

async fn missing(app: &App) -> Vec<Missing> {
    let draining = app.lifecycle.is_draining();
    let draining = draining.then(|| ("instance", "it is draining and about to end".to_owned()));
    let (database, store) = tokio::join!(database(app), store(app));
    draining.into_iter().chain(database).chain(store).collect()
}

async fn store(app: &App) -> Option<Missing> {
    let checked = tokio::time::timeout(PROBE_WITHIN, app.objects.check()).await;
    match checked {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(("store", error.to_string())),
        Err(_) => Some(("store", NO_ANSWER.to_owned())),
    }
}

async fn database(app: &App) -> Option<Missing> {
    let asked = tokio::time::timeout(PROBE_WITHIN, app.stores.upkeep.ping()).await;
    match asked {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(("database", error.to_string())),
        Err(_) => Some(("database", NO_ANSWER.to_owned())),
    }
}
