//! Job events: what ansible-runner reports, reduced to what the service keeps, plus the two
//! synthetic events with which an executor frames them.
//!
//! The reduced form is that of uploads too (contract: runner events), with the counts of
//! `playbook_on_stats` and `ignore_errors` added.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The first event of a run: the executor has taken it and is about to start.
pub const EXECUTOR_ON_START: &str = "executor_on_start";
/// The executor could not carry the run out, or ended it; carries an error code.
pub const EXECUTOR_ON_FAILED: &str = "executor_on_failed";
/// Ansible's own last event, with its counts per host.
pub const PLAYBOOK_ON_STATS: &str = "playbook_on_stats";
/// A task failed on a host (also where the failure is ignored or rescued).
pub const RUNNER_ON_FAILED: &str = "runner_on_failed";

/// The `counter` of the synthetic events, as existing executors send it.
pub const SYNTHETIC_COUNTER: i64 = -1;

/// Error codes of [`EXECUTOR_ON_FAILED`]: those of existing executors, then ours.
pub mod error_code {
    /// Another playbook is being executed on the host.
    pub const ALREADY_RUNNING: &str = "ANSIBLE_PLAYBOOK_ALREADY_RUNNING";
    /// The playbook's signature is missing or wrong.
    pub const SIGNATURE_INVALID: &str = "ANSIBLE_PLAYBOOK_SIGNATURE_VALIDATION_FAILED";
    /// The playbook is not valid YAML or not a playbook.
    pub const YAML_INVALID: &str = "ANSIBLE_YAML_VALIDATION_FAILED";
    /// Anything else; the details say what.
    pub const UNDEFINED: &str = "UNDEFINED_ERROR";
    /// Ended because the run was canceled.
    pub const CANCELED: &str = "DISPATCHER_CANCELED";
    /// Ended because the run's time was over.
    pub const TIMEOUT: &str = "DISPATCHER_TIMEOUT";
    /// The executor itself was killed while the playbook ran; nothing was repeated.
    pub const INTERRUPTED: &str = "DISPATCHER_INTERRUPTED";
}

/// One job event.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct RunnerEvent {
    /// The event's name, 3 to 50 characters.
    pub event: String,
    /// Identifies the event within its run.
    pub uuid: String,
    /// The executor's own count; synthetic events carry [`SYNTHETIC_COUNTER`].
    pub counter: i64,
    /// What Ansible printed for it. In [`EXECUTOR_ON_FAILED`]: what the log says of the error,
    /// where its details repeat what the log has already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdout: Option<String>,
    /// First line of the output that `stdout` covers.
    pub start_line: i64,
    /// Line after the last one that `stdout` covers.
    pub end_line: i64,
    /// What the event is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_data: Option<EventData>,
}

/// The members of `event_data` that are kept.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct EventData {
    /// Path of the playbook inside its project.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub playbook: Option<String>,
    /// Identifies the playbook's execution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub playbook_uuid: Option<String>,
    /// The host the event is about, as Ansible's inventory names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The run's correlation id, in [`EXECUTOR_ON_START`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crc_dispatcher_correlation_id: Option<String>,
    /// One of [`error_code`], in [`EXECUTOR_ON_FAILED`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crc_dispatcher_error_code: Option<String>,
    /// The error in words, in [`EXECUTOR_ON_FAILED`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crc_dispatcher_error_details: Option<String>,
    /// Whether a failure was ignored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignore_errors: Option<bool>,
    /// The task's name, for those who follow a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// In [`PLAYBOOK_ON_STATS`]: hosts and how often they were processed at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processed: Option<BTreeMap<String, u64>>,
    /// In [`PLAYBOOK_ON_STATS`]: failed tasks per host (rescued and ignored ones are not counted).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<BTreeMap<String, u64>>,
    /// In [`PLAYBOOK_ON_STATS`]: hosts that could not be reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dark: Option<BTreeMap<String, u64>>,
}

impl RunnerEvent {
    /// The host the event is about, if it is about one.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.event_data.as_ref()?.host.as_deref()
    }

    /// Every host it names: the one it is about, and those of its counts; some more than once.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        let data = self.event_data.as_ref();
        let counts = data.map(|data| [&data.processed, &data.failures, &data.dark]);
        let counted = counts.into_iter().flatten().flatten().flat_map(BTreeMap::keys);
        self.host().into_iter().chain(counted.map(String::as_str))
    }

    /// Appends what this event prints to a log: its output, and a line end where it covers lines.
    pub fn append_output(&self, log: &mut String) {
        log.push_str(self.stdout.as_deref().unwrap_or_default());
        if self.end_line > self.start_line {
            log.push('\n');
        }
    }
}
