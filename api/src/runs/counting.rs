//! The counters of dispatch and cancel, under the names that existing dashboards know.

use super::model::{NewRun, SendOutcome};

const VERSION: &str = "v2";
/// The kinds of runs, as [`kind`] names them.
const KINDS: [&str; 2] = ["ansible", "satellite"];

/// Makes every counter whose labels are known, at 0, so that rates work from the first event on.
pub fn begin() {
    metrics::counter!("api_cloud_connector_sent_total").absolute(0);
    metrics::counter!("api_run_canceled_total").absolute(0);
    metrics::counter!("app_run_canceled_error_total").absolute(0);
    metrics::counter!("api_validation_failure_total", "type" => "satellite").absolute(0);
    for request in KINDS {
        for trouble in ["error", "no_connection"] {
            let labels = [("type", trouble), ("request", request)];
            metrics::counter!("api_cloud_connector_error_total", &labels).absolute(0);
        }
        metrics::counter!(
            "api_error_total",
            "type" => "db", "subtype" => "playbook_run_create", "request" => request,
            "api_version" => VERSION
        )
        .absolute(0);
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_there_from_the_start() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, begin);
        let text = recorder.handle().render();
        for line in [
            "api_cloud_connector_sent_total 0",
            "api_run_canceled_total 0",
            "app_run_canceled_error_total 0",
            "api_validation_failure_total{type=\"satellite\"} 0",
            "api_cloud_connector_error_total{type=\"no_connection\",request=\"ansible\"} 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
