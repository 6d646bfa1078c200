//! The counters of uploads, under the names that dashboards of the original's validator and consumer
//! know: here one process does what both of them did.

use super::model::{ApplyOutcome, Update};

const VALID: &str = "validator_success_total";
const INVALID: &str = "validator_failure_total";
const NOT_READ: &str = "validator_error_total";
const UPDATED: &str = "response_consumer_playbook_run_updated_total";
const MISSED: &str = "response_consumer_playbook_run_update_miss_total";
const OVERTAKEN: &str = "response_consumer_playbook_run_sequence_out_of_order_total";
const NOT_APPLIED: &str = "response_consumer_error_total";
/// What an archive failed at that could not be had.
const FETCH: &str = "s3fetch";
/// What an update failed at that could not be written.
const UPDATE: &str = "db_update";

/// Whose events an upload holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Those of a host itself.
    Runner,
    /// Those of a Satellite.
    Satellite,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Runner, Self::Satellite];

    /// That of an upload that was read.
    #[must_use]
    pub const fn of(update: &Update) -> Self {
        match update {
            Update::Runner(_) => Self::Runner,
            Update::Satellite(_) => Self::Satellite,
        }
    }

    /// What an upload that was not read claims to be, by its content type.
    #[must_use]
    pub fn claimed(content_type: Option<&str>) -> Self {
        match content_type {
            Some(kind) if kind.contains("playbook-sat") => Self::Satellite,
            _ => Self::Runner,
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Runner => "playbook",
            Self::Satellite => "playbook-sat",
        }
    }
}

/// Makes every counter, at 0, so that rates work from the first upload on.
pub fn begin() {
    describe();
    for kind in Kind::ALL {
        metrics::counter!(VALID, "request_type" => kind.as_str()).absolute(0);
        metrics::counter!(INVALID, "request_type" => kind.as_str()).absolute(0);
        for phase in ["unmarshall", FETCH] {
            let labels = [("phase", phase), ("request_type", kind.as_str())];
            metrics::counter!(NOT_READ, &labels).absolute(0);
        }
    }
    metrics::counter!(UPDATED).absolute(0);
    metrics::counter!(MISSED).absolute(0);
    metrics::counter!(OVERTAKEN).absolute(0);
    for kind in [UPDATE, "header_missing"] {
        metrics::counter!(NOT_APPLIED, "type" => kind).absolute(0);
    }
}

fn describe() {
    metrics::describe_counter!(VALID, "Uploads whose content is acceptable.");
    metrics::describe_counter!(INVALID, "Uploads whose content is not acceptable.");
    metrics::describe_counter!(NOT_READ, "Times that an upload could not be read.");
    metrics::describe_counter!(UPDATED, "Uploads that were applied to their run.");
    metrics::describe_counter!(MISSED, "Uploads without a run that takes them.");
    metrics::describe_counter!(OVERTAKEN, "Uploads that came after a later one of their run.");
    metrics::describe_counter!(NOT_APPLIED, "Times that an upload could not be applied.");
}

/// The content of an upload is not acceptable.
pub fn invalid(kind: Kind) {
    metrics::counter!(INVALID, "request_type" => kind.as_str()).increment(1);
}

/// The object store did not give an archive. Of which kind it is nobody has seen.
pub fn not_fetched() {
    let labels = [("phase", FETCH), ("request_type", Kind::Runner.as_str())];
    metrics::counter!(NOT_READ, &labels).increment(1);
}

/// The database failed at an upload.
pub fn not_applied() {
    metrics::counter!(NOT_APPLIED, "type" => UPDATE).increment(1);
}

/// A valid upload came to this. One that somebody else has applied is counted there.
pub fn settled(kind: Kind, outcome: ApplyOutcome) {
    let came_to = match outcome {
        ApplyOutcome::Applied => metrics::counter!(UPDATED),
        ApplyOutcome::OutOfDate => metrics::counter!(OVERTAKEN),
        ApplyOutcome::NoRun => metrics::counter!(MISSED),
        ApplyOutcome::NotYours => return,
    };
    came_to.increment(1);
    metrics::counter!(VALID, "request_type" => kind.as_str()).increment(1);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(count: impl FnOnce()) -> String {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            begin();
            count();
        });
        recorder.handle().render()
    }

    /// Lines of samples, sorted.
    fn samples(text: &str) -> Vec<&str> {
        let mut lines: Vec<_> =
            text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
        lines.sort_unstable();
        lines
    }

    #[test]
    fn every_counter_is_there_from_the_start() {
        let expected = [
            "response_consumer_error_total{type=\"db_update\"} 0",
            "response_consumer_error_total{type=\"header_missing\"} 0",
            "response_consumer_playbook_run_sequence_out_of_order_total 0",
            "response_consumer_playbook_run_update_miss_total 0",
            "response_consumer_playbook_run_updated_total 0",
            "validator_error_total{phase=\"s3fetch\",request_type=\"playbook\"} 0",
            "validator_error_total{phase=\"s3fetch\",request_type=\"playbook-sat\"} 0",
            "validator_error_total{phase=\"unmarshall\",request_type=\"playbook\"} 0",
            "validator_error_total{phase=\"unmarshall\",request_type=\"playbook-sat\"} 0",
            "validator_failure_total{request_type=\"playbook\"} 0",
            "validator_failure_total{request_type=\"playbook-sat\"} 0",
            "validator_success_total{request_type=\"playbook\"} 0",
            "validator_success_total{request_type=\"playbook-sat\"} 0",
        ];
        assert_eq!(samples(&rendered(|| {})), expected);
    }

    #[test]
    fn every_end_is_counted_once() {
        let text = rendered(|| {
            settled(Kind::Runner, ApplyOutcome::Applied);
            settled(Kind::Satellite, ApplyOutcome::Applied);
            settled(Kind::Runner, ApplyOutcome::NoRun);
            settled(Kind::Runner, ApplyOutcome::OutOfDate);
            settled(Kind::Runner, ApplyOutcome::NotYours);
            invalid(Kind::Satellite);
            not_fetched();
            not_applied();
        });
        let counted: Vec<_> =
            samples(&text).into_iter().filter(|line| !line.ends_with(" 0")).collect();
        let expected = [
            "response_consumer_error_total{type=\"db_update\"} 1",
            "response_consumer_playbook_run_sequence_out_of_order_total 1",
            "response_consumer_playbook_run_update_miss_total 1",
            "response_consumer_playbook_run_updated_total 2",
            "validator_error_total{phase=\"s3fetch\",request_type=\"playbook\"} 1",
            "validator_failure_total{request_type=\"playbook-sat\"} 1",
            "validator_success_total{request_type=\"playbook\"} 3",
            "validator_success_total{request_type=\"playbook-sat\"} 1",
        ];
        assert_eq!(counted, expected);
    }

    #[test]
    fn what_was_not_read_is_what_it_claims_to_be() {
        let satellite = "application/vnd.redhat.playbook-sat.v3+gzip";
        assert_eq!(Kind::claimed(Some(satellite)), Kind::Satellite);
        let runner = "application/vnd.redhat.playbook.v1+jsonl";
        assert_eq!(Kind::claimed(Some(runner)), Kind::Runner);
        assert_eq!(Kind::claimed(None), Kind::Runner);
    }
}
