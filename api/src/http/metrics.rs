//! The metrics port: Prometheus text and the contract's probes.

use std::time::Duration;

use axum::{Router, routing::get};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use super::health;
use crate::{
    app::App,
    outside::call::{SECONDS, TRANSLATOR_SECONDS},
};

/// Between two times at which samples are folded, so that they do not pile up unread.
const UPKEEP: Duration = Duration::from_secs(5);
/// The name of the histogram of request times.
pub const REQUEST_SECONDS: &str = "echo_http_request_duration_seconds";
/// Its buckets, as dashboards of the original expect them.
const BUCKETS: [f64; 17] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0,
    20.0, 30.0,
];

/// The buckets of calls of services outside, likewise.
const OUTSIDE_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Makes this process's metrics go to the returned handle.
///
/// # Errors
/// When they go somewhere already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)?
        .set_buckets_for_metric(Matcher::Full(SECONDS.to_owned()), &OUTSIDE_BUCKETS)?
        .set_buckets_for_metric(Matcher::Full(TRANSLATOR_SECONDS.to_owned()), &OUTSIDE_BUCKETS)?
        .install_recorder()
}

/// The routes of the metrics port.
pub fn router(app: &App, handle: PrometheusHandle) -> Router {
    let render = move || std::future::ready(handle.render());
    Router::new()
        .route(&app.settings.http.metrics_path, get(render))
        .route("/live", get(health::probe_live))
        .route("/ready", get(health::probe_ready))
        .with_state(app.clone())
}

/// Folds samples until the process ends.
pub async fn keep_up(handle: PrometheusHandle) {
    loop {
        tokio::time::sleep(UPKEEP).await;
        handle.run_upkeep();
    }
}
