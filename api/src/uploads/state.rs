//! What runner events say about a run and its hosts (contract §5.1, with the counts of
//! `playbook_on_stats` deciding where it carries them). Pure, one pass whatever the number of hosts.

use std::collections::BTreeMap;

use dispatcher_wire::{
    RunStatus,
    event::{
        EXECUTOR_ON_FAILED, EventData, PLAYBOOK_ON_STATS, RUNNER_ON_FAILED, RunnerEvent, error_code,
    },
};

/// The host a run has when no event names one.
pub const FALLBACK_HOST: &str = "localhost";

/// What the events say.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The run's state.
    pub run: RunStatus,
    /// The hosts with their states, sorted, never empty.
    pub hosts: Vec<(String, RunStatus)>,
    /// Code and details of the last error that the executor reported.
    pub error: Option<(String, String)>,
}

/// What was seen for one host, or without a host.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    executor_failed: bool,
    runner_failed: bool,
}

/// Hosts that the counts call failed or unreachable; `None` without counts.
type Counts<'a> = Option<BTreeMap<&'a str, ()>>;

/// What these events say, in upload order.
#[must_use]
pub fn outcome(events: &[RunnerEvent]) -> Outcome {
    let mut hosts: BTreeMap<&str, Seen> = BTreeMap::new();
    let mut hostless = Seen::default();
    let mut stats = false;
    let mut bad: Counts<'_> = None;
    for event in events {
        let seen = match event.host() {
            Some(host) => hosts.entry(host).or_default(),
            None => &mut hostless,
        };
        match event.event.as_str() {
            EXECUTOR_ON_FAILED => seen.executor_failed = true,
            RUNNER_ON_FAILED => seen.runner_failed = true,
            PLAYBOOK_ON_STATS => {
                stats = true;
                count(event.event_data.as_ref(), &mut bad);
            }
            _ => {}
        }
    }
    let anywhere = hosts.values().fold(hostless, |all, seen| merge(all, *seen));
    let run = status(anywhere, stats, bad.as_ref().map(|bad| !bad.is_empty()));
    if hosts.is_empty() {
        hosts.insert(FALLBACK_HOST, Seen::default());
    }
    let of_host = |(host, seen): (&str, Seen)| {
        let counted = bad.as_ref().map(|bad| bad.contains_key(host));
        (host.to_owned(), status(merge(hostless, seen), stats, counted))
    };
    Outcome { run, hosts: hosts.into_iter().map(of_host).collect(), error: error(events) }
}

const fn merge(a: Seen, b: Seen) -> Seen {
    Seen {
        executor_failed: a.executor_failed || b.executor_failed,
        runner_failed: a.runner_failed || b.runner_failed,
    }
}

fn status(seen: Seen, stats: bool, counted_as_failed: Option<bool>) -> RunStatus {
    let failed = seen.executor_failed || counted_as_failed.unwrap_or(seen.runner_failed);
    match (stats || seen.executor_failed, failed) {
        (false, _) => RunStatus::Running,
        (true, true) => RunStatus::Failure,
        (true, false) => RunStatus::Success,
    }
}

fn count<'a>(data: Option<&'a EventData>, bad: &mut Counts<'a>) {
    let Some((failures, dark)) =
        data.and_then(|data| Some((data.failures.as_ref()?, data.dark.as_ref()?)))
    else {
        return;
    };
    let counted = failures.iter().chain(dark).filter(|(_, count)| **count > 0);
    bad.get_or_insert_default().extend(counted.map(|(host, _)| (host.as_str(), ())));
}

/// The executor's last error in the order of the log: by counter, then as uploaded.
#[must_use]
pub fn last_error(events: &[RunnerEvent]) -> Option<&EventData> {
    let failed = events.iter().filter(|event| event.event == EXECUTOR_ON_FAILED);
    failed.max_by_key(|event| event.counter)?.event_data.as_ref()
}

fn error(events: &[RunnerEvent]) -> Option<(String, String)> {
    let data = last_error(events)?;
    let code = data.crc_dispatcher_error_code.as_deref().unwrap_or(error_code::UNDEFINED);
    let details = data.crc_dispatcher_error_details.as_deref().unwrap_or_default();
    Some((code.to_owned(), details.to_owned()))
}

#[cfg(test)]
mod tests {
    use RunStatus::{Failure, Running, Success};

    use super::*;

    fn event(name: &str, host: Option<&str>) -> RunnerEvent {
        let data = EventData { host: host.map(str::to_owned), ..EventData::default() };
        RunnerEvent { event: name.to_owned(), event_data: Some(data), ..RunnerEvent::default() }
    }

    fn stats(failures: &[&str], dark: &[&str]) -> RunnerEvent {
        let ones =
            |hosts: &[&str]| Some(hosts.iter().map(|host| ((*host).to_owned(), 1)).collect());
        let mut event = event(PLAYBOOK_ON_STATS, None);
        let data = event.event_data.as_mut().unwrap();
        (data.failures, data.dark) = (ones(failures), ones(dark));
        event
    }

    fn states(events: &[RunnerEvent]) -> (RunStatus, Vec<RunStatus>) {
        let outcome = outcome(events);
        (outcome.run, outcome.hosts.into_iter().map(|(_, status)| status).collect())
    }

    #[test]
    fn nothing_is_over_without_stats_or_an_executors_failure() {
        let ok = || event("runner_on_ok", Some("a"));
        let failed = || event(RUNNER_ON_FAILED, Some("a"));
        let end = || event(PLAYBOOK_ON_STATS, None);
        assert_eq!(states(&[ok()]), (Running, vec![Running]));
        assert_eq!(states(&[failed()]), (Running, vec![Running]));
        assert_eq!(states(&[ok(), end()]), (Success, vec![Success]));
        assert_eq!(states(&[failed(), end()]), (Failure, vec![Failure]));
        assert_eq!(states(&[end(), failed()]), (Failure, vec![Failure]), "any order");
    }

    #[test]
    fn a_host_is_judged_by_its_own_events_and_those_without_host() {
        let end = event(PLAYBOOK_ON_STATS, Some("c"));
        let on_b = [event("runner_on_ok", Some("a")), event(RUNNER_ON_FAILED, Some("b")), end];
        assert_eq!(states(&on_b), (Failure, vec![Success, Failure, Success]));
        let everywhere = [
            event("runner_on_ok", Some("a")),
            event(RUNNER_ON_FAILED, None),
            event(PLAYBOOK_ON_STATS, None),
        ];
        assert_eq!(states(&everywhere), (Failure, vec![Failure]));
        let executor = [event("runner_on_ok", Some("a")), event(EXECUTOR_ON_FAILED, Some("b"))];
        assert_eq!(states(&executor), (Failure, vec![Running, Failure]));
        let executor = [event("runner_on_ok", Some("a")), event(EXECUTOR_ON_FAILED, None)];
        assert_eq!(states(&executor), (Failure, vec![Failure]));
    }

    #[test]
    fn without_counts_unreachable_is_no_failure_and_a_rescue_is_one() {
        let unreachable =
            [event("runner_on_unreachable", Some("a")), event(PLAYBOOK_ON_STATS, None)];
        assert_eq!(states(&unreachable), (Success, vec![Success]));
        let mut rescued = event(RUNNER_ON_FAILED, Some("a"));
        rescued.event_data.as_mut().unwrap().ignore_errors = Some(true);
        assert_eq!(states(&[rescued, event(PLAYBOOK_ON_STATS, None)]).0, Failure);
    }

    #[test]
    fn counts_decide_where_there_are_any() {
        let ignored = event(RUNNER_ON_FAILED, Some("a"));
        let other = event("runner_on_unreachable", Some("b"));
        let both = |end| states(&[ignored.clone(), other.clone(), end]);
        assert_eq!(both(stats(&[], &[])), (Success, vec![Success, Success]));
        assert_eq!(both(stats(&[], &["b"])), (Failure, vec![Success, Failure]));
        assert_eq!(both(stats(&["a"], &[])), (Failure, vec![Failure, Success]));
        let mut half = stats(&[], &[]);
        half.event_data.as_mut().unwrap().dark = None;
        assert_eq!(both(half), (Failure, vec![Failure, Success]), "no full counts");
        let failed = event(EXECUTOR_ON_FAILED, None);
        assert_eq!(states(&[stats(&[], &[]), failed]).0, Failure, "the executor knows better");
    }

    #[test]
    fn hosts_are_sorted_and_there_is_always_one() {
        let hosts = |events: &[RunnerEvent]| {
            outcome(events).hosts.into_iter().map(|(host, _)| host).collect::<Vec<_>>()
        };
        let named = ["b", "a", "b"].map(|host| event("runner_on_ok", Some(host)));
        assert_eq!(hosts(&named), ["a", "b"]);
        assert_eq!(hosts(&[event("executor_on_start", None)]), ["localhost"]);
    }

    #[test]
    fn the_last_error_is_kept() {
        let failed = |counter, code: &str| {
            let mut event = event(EXECUTOR_ON_FAILED, None);
            event.counter = counter;
            let data = event.event_data.as_mut().unwrap();
            data.crc_dispatcher_error_code = Some(code.to_owned());
            event
        };
        let error = outcome(&[failed(5, "LAST"), failed(-1, "FIRST"), failed(-1, "SECOND")]).error;
        assert_eq!(error, Some(("LAST".to_owned(), String::new())));
        let error = outcome(&[failed(-1, "FIRST"), failed(-1, "SECOND")]).error;
        assert_eq!(error.unwrap().0, "SECOND");
        let bare = RunnerEvent { event_data: None, ..failed(1, "") };
        assert_eq!(outcome(&[bare]).error, None);
    }
}
