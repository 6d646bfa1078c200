//! How a run came to its end, and what is reported of it. Pure.

use dispatcher_wire::event::{
    EXECUTOR_ON_FAILED, EXECUTOR_ON_START, EventData, RunnerEvent, SYNTHETIC_COUNTER, error_code,
};
use uuid::Uuid;

/// ansible-playbook's exit status where a playbook cannot be parsed.
const PARSER_ERROR: i32 = 4;

/// Why a run is ended from outside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stop {
    /// Somebody canceled it.
    Canceled,
    /// Its time is over.
    TimedOut,
    /// The worker is being stopped.
    WorkerStopped,
    /// The claim is not ours any more, or the service refuses our reports: nothing is reported.
    Lost,
}

/// How a run came to its end.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ending {
    /// The playbook's counts say everything.
    Played,
    /// It was ended from outside.
    Stopped(Stop),
    /// It could not be carried out: code and details.
    Failed(&'static str, String),
}

impl Ending {
    /// Nothing that the playbook did.
    pub(crate) fn failed(details: impl Into<String>) -> Self {
        Self::Failed(error_code::UNDEFINED, details.into())
    }

    /// From the exit status of ansible-runner, where it ended by itself.
    pub(crate) fn of_exit(code: Option<i32>, has_stats: bool, tail: &str) -> Self {
        if has_stats {
            return Self::Played;
        }
        let told = match code {
            Some(code) => {
                format!("ansible-runner ended with status {code} before the playbook did")
            }
            None => "ansible-runner was killed before the playbook ended".to_owned(),
        };
        let tail = tail.trim();
        let details = if tail.is_empty() { told } else { format!("{told}:\n{tail}") };
        if code == Some(PARSER_ERROR) {
            Self::Failed(error_code::YAML_INVALID, details)
        } else {
            Self::failed(details)
        }
    }

    /// The last record of the run, where there is one to add.
    pub(crate) fn record(&self) -> Option<RunnerEvent> {
        let (code, details) = match self {
            Self::Played | Self::Stopped(Stop::Lost) => return None,
            Self::Stopped(Stop::Canceled) => (error_code::CANCELED, "the run was canceled"),
            Self::Stopped(Stop::TimedOut) => (error_code::TIMEOUT, "the run's time is over"),
            Self::Stopped(Stop::WorkerStopped) => {
                (error_code::INTERRUPTED, "the worker was stopped while the run went on")
            }
            Self::Failed(code, details) => (*code, details.as_str()),
        };
        Some(synthetic(
            EXECUTOR_ON_FAILED,
            EventData {
                crc_dispatcher_error_code: Some(code.to_owned()),
                crc_dispatcher_error_details: Some(details.replace('\0', "\u{fffd}")),
                ..EventData::default()
            },
        ))
    }
}

/// The first record of a run.
pub(crate) fn start_record(correlation_id: Uuid) -> RunnerEvent {
    synthetic(
        EXECUTOR_ON_START,
        EventData {
            crc_dispatcher_correlation_id: Some(correlation_id.to_string()),
            ..EventData::default()
        },
    )
}

fn synthetic(name: &str, data: EventData) -> RunnerEvent {
    RunnerEvent {
        event: name.to_owned(),
        uuid: Uuid::new_v4().to_string(),
        counter: SYNTHETIC_COUNTER,
        event_data: Some(data),
        ..RunnerEvent::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_say_everything_whatever_the_exit_status() {
        assert_eq!(Ending::of_exit(Some(2), true, "x"), Ending::Played);
        assert_eq!(Ending::Played.record(), None);
        assert_eq!(Ending::Stopped(Stop::Lost).record(), None);
    }

    #[test]
    fn endings_without_counts_say_why() {
        let code = |ending: &Ending| {
            let data = ending.record().unwrap().event_data.unwrap();
            (data.crc_dispatcher_error_code.unwrap(), data.crc_dispatcher_error_details.unwrap())
        };
        let (invalid, details) =
            code(&Ending::of_exit(Some(4), false, "[ERROR]: YAML parsing failed"));
        assert_eq!(invalid, "ANSIBLE_YAML_VALIDATION_FAILED");
        assert!(
            details.ends_with("status 4 before the playbook did:\n[ERROR]: YAML parsing failed")
        );
        assert_eq!(code(&Ending::of_exit(Some(1), false, "")).0, "UNDEFINED_ERROR");
        assert!(code(&Ending::of_exit(None, false, "")).1.contains("killed"));
        assert_eq!(code(&Ending::Stopped(Stop::Canceled)).0, "DISPATCHER_CANCELED");
        assert_eq!(code(&Ending::Stopped(Stop::TimedOut)).0, "DISPATCHER_TIMEOUT");
        assert_eq!(code(&Ending::Stopped(Stop::WorkerStopped)).0, "DISPATCHER_INTERRUPTED");
    }
}
