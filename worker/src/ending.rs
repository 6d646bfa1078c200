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
    /// Its program ended before the playbook did: code, what happened, and the last that it
    /// printed, which says why.
    Broken(&'static str, String, String),
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
        let parser = code == Some(PARSER_ERROR);
        let code = if parser { error_code::YAML_INVALID } else { error_code::UNDEFINED };
        match tail.trim() {
            "" => Self::Failed(code, told),
            tail => Self::Broken(code, told, tail.to_owned()),
        }
    }

    /// The last record of the run, where there is one to add.
    pub(crate) fn record(&self) -> Option<RunnerEvent> {
        Some(match self {
            Self::Played | Self::Stopped(Stop::Lost) => return None,
            Self::Stopped(Stop::Canceled) => failure(error_code::CANCELED, "the run was canceled"),
            Self::Stopped(Stop::TimedOut) => failure(error_code::TIMEOUT, "the run's time is over"),
            Self::Stopped(Stop::WorkerStopped) => {
                failure(error_code::INTERRUPTED, "the worker was stopped while the run went on")
            }
            Self::Failed(code, details) => failure(code, details),
            // The log has the tail already.
            Self::Broken(code, told, tail) => RunnerEvent {
                stdout: Some(told.clone()),
                ..failure(code, &format!("{told}:\n{tail}"))
            },
        })
    }
}

fn failure(code: &str, details: &str) -> RunnerEvent {
    let data = EventData {
        crc_dispatcher_error_code: Some(code.to_owned()),
        crc_dispatcher_error_details: Some(details.replace('\0', "\u{fffd}")),
        ..EventData::default()
    };
    synthetic(EXECUTOR_ON_FAILED, data)
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
        let broken = Ending::of_exit(Some(4), false, "[ERROR]: YAML parsing failed\n");
        let (invalid, details) = code(&broken);
        assert_eq!(invalid, "ANSIBLE_YAML_VALIDATION_FAILED");
        assert!(
            details.ends_with("status 4 before the playbook did:\n[ERROR]: YAML parsing failed")
        );
        let printed = "ansible-runner ended with status 4 before the playbook did";
        assert_eq!(broken.record().unwrap().stdout.unwrap(), printed);
        let silent = Ending::of_exit(Some(1), false, " \n");
        assert_eq!(code(&silent).0, "UNDEFINED_ERROR");
        assert_eq!(silent.record().unwrap().stdout, None);
        assert!(code(&Ending::of_exit(None, false, "")).1.contains("killed"));
        assert_eq!(code(&Ending::Stopped(Stop::Canceled)).0, "DISPATCHER_CANCELED");
        assert_eq!(code(&Ending::Stopped(Stop::TimedOut)).0, "DISPATCHER_TIMEOUT");
        assert_eq!(code(&Ending::Stopped(Stop::WorkerStopped)).0, "DISPATCHER_INTERRUPTED");
    }
}
