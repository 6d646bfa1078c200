//! The counters of dispatch and cancel, under the names that existing dashboards know.

use super::model::{NewRun, SendOutcome};

const VERSION: &str = "v2";

const fn kind(run: &NewRun) -> &'static str {
    if run.sat_id.is_some() { "satellite" } else { "ansible" }
}

/// A run stands.
pub fn created(run: &NewRun) {
    metrics::counter!(
        "api_run_created_total",
        "dispatching_service" => run.service.clone(), "request" => kind(run),
        "api_version" => VERSION
    )
    .increment(1);
}

/// A run could not be stored.
pub fn not_stored(run: &NewRun) {
    metrics::counter!(
        "api_error_total",
        "type" => "db", "subtype" => "playbook_run_create", "request" => kind(run),
        "api_version" => VERSION
    )
    .increment(1);
}

/// A message was sent for a run, and came to this.
pub fn sent(run: &NewRun, outcome: SendOutcome, connected: bool) {
    if outcome == SendOutcome::Accepted {
        metrics::counter!("api_cloud_connector_sent_total").increment(1);
        return;
    }
    let trouble = if connected { "error" } else { "no_connection" };
    metrics::counter!("api_cloud_connector_error_total", "type" => trouble, "request" => kind(run))
        .increment(1);
}

/// A batch was refused for what it says of Satellites.
pub fn invalid_batch() {
    metrics::counter!("api_validation_failure_total", "type" => "satellite").increment(1);
}

/// A cancellation was answered with this code; conflicts and failures are not counted.
pub fn canceled(code: u16) {
    match code {
        202 => metrics::counter!("api_run_canceled_total").increment(1),
        400 | 404 => metrics::counter!("app_run_canceled_error_total").increment(1),
        _ => {}
    }
}
