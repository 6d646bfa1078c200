//! The counters of dispatch and cancel, under the names that existing dashboards know.

use super::model::NewRun;
use crate::connector::SendError;

/// The kinds of runs, as [`kind`] names them.
const KINDS: [&str; 2] = ["ansible", "satellite"];
/// What the database may fail at.
const FAILURES: [&str; 3] = [CREATE, "playbook_run_host_create", READ];
const CREATE: &str = "playbook_run_create";
const READ: &str = "playbook_run_read";

/// The version of the route that runs are dispatched by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ApiVersion {
    /// By account.
    V1,
    /// By organisation.
    V2,
}

impl ApiVersion {
    const ALL: [Self; 2] = [Self::V1, Self::V2];

    const fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }
}

/// Makes every counter whose labels are known, at 0, so that rates work from the first event on.
pub fn begin() {
    metrics::counter!("api_cloud_connector_sent_total").absolute(0);
    metrics::counter!("api_run_canceled_total").absolute(0);
    metrics::counter!("app_run_canceled_error_total").absolute(0);
    // Nothing is ever counted as the first, in the original neither.
    for trouble in ["anemic-tenant", "satellite"] {
        metrics::counter!("api_validation_failure_total", "type" => trouble).absolute(0);
    }
    for request in KINDS {
        for trouble in ["error", "no_connection"] {
            let labels = [("type", trouble), ("request", request)];
            metrics::counter!("api_cloud_connector_error_total", &labels).absolute(0);
        }
        for (subtype, version) in FAILURES.iter().flat_map(|it| ApiVersion::ALL.map(|v| (*it, v))) {
            database_error(subtype, request, version).absolute(0);
        }
    }
}

const fn kind(satellite: bool) -> &'static str {
    if satellite { "satellite" } else { "ansible" }
}

fn database_error(
    subtype: &'static str,
    request: &'static str,
    version: ApiVersion,
) -> metrics::Counter {
    metrics::counter!(
        "api_error_total",
        "type" => "db", "subtype" => subtype, "request" => request,
        "api_version" => version.as_str()
    )
}

/// A run stands.
pub fn created(run: &NewRun, version: ApiVersion) {
    metrics::counter!(
        "api_run_created_total",
        "dispatching_service" => run.service.clone(), "request" => kind(run.sat_id.is_some()),
        "api_version" => version.as_str()
    )
    .increment(1);
}

/// A run, behind a Satellite or not, could not be stored, or not what became of its message.
pub fn not_stored(satellite: bool, version: ApiVersion) {
    database_error(CREATE, kind(satellite), version).increment(1);
}

/// Runs or their hosts could not be read. Of which kind they are is not known then.
pub fn not_read(path: &str) {
    let version = if path.contains("/v2/") { ApiVersion::V2 } else { ApiVersion::V1 };
    database_error(READ, kind(false), version).increment(1);
}

/// A message for a run, behind a Satellite or not, came to this.
pub fn sent(satellite: bool, result: &Result<(), SendError>) {
    let trouble = match result {
        Ok(()) => {
            metrics::counter!("api_cloud_connector_sent_total").increment(1);
            return;
        }
        Err(SendError::NotConnected) => "no_connection",
        Err(SendError::Refused(_) | SendError::Ambiguous(_)) => "error",
    };
    let labels = [("type", trouble), ("request", kind(satellite))];
    metrics::counter!("api_cloud_connector_error_total", &labels).increment(1);
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
            "api_validation_failure_total{type=\"anemic-tenant\"} 0",
            "api_cloud_connector_error_total{type=\"no_connection\",request=\"ansible\"} 0",
            "api_error_total{type=\"db\",subtype=\"playbook_run_create\",request=\"satellite\",\
             api_version=\"v1\"} 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
