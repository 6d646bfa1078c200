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

/// `GET /health/ready`: whether requests should come here, what is missing, and what does not work
/// though they should.
///
/// Only what makes another instance a better choice counts. The object store is one for all, and most
/// requests need none of it: if it counted, a balancer would take every instance out at once.
pub async fn ready(State(app): State<App>) -> Response {
    let Condition { missing, degraded } = condition(&app).await;
    match (missing.is_empty(), degraded.is_empty()) {
        (false, _) => not_ready(&missing),
        (true, true) => JsonReply(StatusCode::OK, json!({ "status": "ready" })).into_response(),
        (true, false) => {
            let body = json!({ "status": "degraded", "degraded": named(&degraded) });
            JsonReply(StatusCode::OK, body).into_response()
        }
    }
}

/// The answer that names what is missing.
pub(super) fn not_ready(missing: &[Missing]) -> Response {
    let body = json!({ "status": "not_ready", "missing": named(missing) });
    JsonReply(StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}

fn named(things: &[Missing]) -> Vec<serde_json::Value> {
    things.iter().map(|(name, reason)| json!({ "name": name, "reason": reason })).collect()
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
    let missing: Vec<_> = database(&app).await.into_iter().collect();
    probe(&Condition { missing, degraded: Vec::new() })
}

/// `GET /ready` of the metrics port: the same, and it fails while draining; names what does not work,
/// too.
pub async fn probe_ready(State(app): State<App>) -> Response {
    probe(&condition(&app).await)
}

/// How long something may take to answer a probe, which must answer itself.
const PROBE_WITHIN: Duration = Duration::from_secs(2);
const NO_ANSWER: &str = "it does not answer in time";

pub(super) type Missing = (&'static str, String);

/// How an instance is.
struct Condition {
    /// Without it nothing can be answered.
    missing: Vec<Missing>,
    /// Without it some things can not.
    degraded: Vec<Missing>,
}

fn probe(condition: &Condition) -> Response {
    let Condition { missing, degraded } = condition;
    let status = if missing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if missing.is_empty() && degraded.is_empty() {
        return status.into_response();
    }
    let lines = missing.iter().map(|(name, reason)| format!("{name}: {reason}\n"));
    let more = degraded.iter().map(|(name, reason)| format!("degraded: {name}: {reason}\n"));
    (status, lines.chain(more).collect::<String>()).into_response()
}

async fn condition(app: &App) -> Condition {
    let draining = app.lifecycle.is_draining();
    let draining = draining.then(|| ("instance", "it is draining and about to end".to_owned()));
    let (database, store) = tokio::join!(database(app), store(app));
    Condition {
        missing: draining.into_iter().chain(database).collect(),
        degraded: store.into_iter().collect(),
    }
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
