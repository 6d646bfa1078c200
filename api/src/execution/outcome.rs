//! How a run ends, from what its executor reported. Pure.
//!
//! Ansible's own counts decide where there are any (decision 8); an error of the executor decides
//! over them, since it means that the playbook did not come to its own end.

use std::collections::BTreeMap;

use dispatcher_wire::{
    RunStatus,
    event::{EXECUTOR_ON_FAILED, PLAYBOOK_ON_STATS, RunnerEvent, error_code},
};

use super::model::OutcomeSoFar;

/// The final states that an outcome stands for.
#[derive(Clone, Debug, PartialEq)]
pub struct FinalStates {
    /// The run's.
    pub run: RunStatus,
    /// Those of hosts named by `playbook_on_stats`.
    pub hosts: BTreeMap<String, RunStatus>,
    /// That of every other host of the run.
    pub other_hosts: RunStatus,
}

impl OutcomeSoFar {
    /// Takes in what one more event says.
    pub fn observe(&mut self, event: &RunnerEvent) {
        let Some(data) = &event.event_data else {
            return;
        };
        match event.event.as_str() {
            PLAYBOOK_ON_STATS => {
                let counted = |map: &Option<BTreeMap<String, u64>>, host: &str| {
                    map.as_ref().and_then(|map| map.get(host)).is_some_and(|count| *count > 0)
                };
                let hosts = [&data.processed, &data.failures, &data.dark];
                let stats = self.stats.get_or_insert_default();
                for host in hosts.into_iter().flatten().flat_map(BTreeMap::keys) {
                    let bad = counted(&data.failures, host) || counted(&data.dark, host);
                    stats.insert(host.clone(), bad);
                }
            }
            EXECUTOR_ON_FAILED => {
                let code = data.crc_dispatcher_error_code.as_deref();
                let details = data.crc_dispatcher_error_details.as_deref();
                self.error = Some((
                    code.unwrap_or(error_code::UNDEFINED).to_owned(),
                    details.unwrap_or_default().to_owned(),
                ));
            }
            _ => {}
        }
    }

    /// Merges what a later batch says into what was known; of at most so many hosts. Of those
    /// beyond them only whether one is bad is kept.
    pub fn merge(&mut self, later: &Self, hosts_max: u64) {
        if let Some(later) = &later.stats {
            let stats = self.stats.get_or_insert_default();
            for (host, bad) in later {
                let room = (stats.len() as u64) < hosts_max;
                match stats.get_mut(host) {
                    Some(known) => *known = *bad,
                    None if room => drop(stats.insert(host.clone(), *bad)),
                    None => self.more_failed |= *bad,
                }
            }
        }
        self.more_hosts |= later.more_hosts;
        self.more_failed |= later.more_failed;
        if later.error.is_some() {
            self.error.clone_from(&later.error);
        }
    }

    /// The states a run and its hosts end in. A run that ended without counts and without an
    /// error has failed: nobody can say that it succeeded.
    #[must_use]
    pub fn final_states(&self) -> FinalStates {
        let forced = self.error.as_ref().map(|(code, _)| match code.as_str() {
            error_code::CANCELED => RunStatus::Canceled,
            error_code::TIMEOUT => RunStatus::Timeout,
            _ => RunStatus::Failure,
        });
        let of = |bad: bool| {
            if bad { RunStatus::Failure } else { RunStatus::Success }
        };
        let hosts: BTreeMap<String, RunStatus> =
            self.stats.iter().flatten().map(|(host, bad)| (host.clone(), of(*bad))).collect();
        let run = forced.unwrap_or_else(|| {
            let failed = hosts.values().any(|state| *state == RunStatus::Failure);
            of(self.stats.is_none() || failed || self.more_failed)
        });
        FinalStates { run, hosts, other_hosts: run }
    }
}

#[cfg(test)]
mod tests {
    use dispatcher_wire::event::EventData;

    use super::*;

    fn stats(failures: &[(&str, u64)], dark: &[(&str, u64)], ok: &[&str]) -> RunnerEvent {
        let counts = |pairs: &[(&str, u64)]| {
            Some(pairs.iter().map(|(host, n)| ((*host).to_owned(), *n)).collect())
        };
        RunnerEvent {
            event: PLAYBOOK_ON_STATS.to_owned(),
            event_data: Some(EventData {
                processed: counts(&ok.iter().map(|host| (*host, 1)).collect::<Vec<_>>()),
                failures: counts(failures),
                dark: counts(dark),
                ..EventData::default()
            }),
            ..RunnerEvent::default()
        }
    }

    fn failed(code: &str) -> RunnerEvent {
        RunnerEvent {
            event: EXECUTOR_ON_FAILED.to_owned(),
            event_data: Some(EventData {
                crc_dispatcher_error_code: Some(code.to_owned()),
                crc_dispatcher_error_details: Some("why".to_owned()),
                ..EventData::default()
            }),
            ..RunnerEvent::default()
        }
    }

    fn states(events: &[RunnerEvent]) -> FinalStates {
        let mut outcome = OutcomeSoFar::default();
        events.iter().for_each(|event| outcome.observe(event));
        outcome.final_states()
    }

    #[test]
    fn counts_decide() {
        assert_eq!(states(&[stats(&[], &[], &["a"])]).run, RunStatus::Success);
        assert_eq!(states(&[stats(&[("a", 1)], &[], &["a", "b"])]).run, RunStatus::Failure);
        let unreachable = states(&[stats(&[], &[("b", 1)], &["a", "b"])]);
        assert_eq!(unreachable.run, RunStatus::Failure);
        assert_eq!(unreachable.hosts.get("a"), Some(&RunStatus::Success));
        assert_eq!(unreachable.hosts.get("b"), Some(&RunStatus::Failure));
    }

    #[test]
    fn no_count_is_too_large() {
        let most = [("a", u64::MAX)];
        assert_eq!(states(&[stats(&most, &[("a", 1)], &["a"])]).run, RunStatus::Failure);
    }

    #[test]
    fn no_hosts_matched_is_a_success() {
        assert_eq!(states(&[stats(&[], &[], &[])]).run, RunStatus::Success);
    }

    #[test]
    fn the_executors_error_decides_over_counts() {
        for (code, status) in [
            (error_code::CANCELED, RunStatus::Canceled),
            (error_code::TIMEOUT, RunStatus::Timeout),
            (error_code::UNDEFINED, RunStatus::Failure),
        ] {
            let states = states(&[stats(&[], &[], &["a"]), failed(code)]);
            assert_eq!(states.run, status);
            assert_eq!(states.other_hosts, status);
        }
    }

    #[test]
    fn counts_are_kept_of_so_many_hosts_and_the_others_still_decide() {
        let of = |event: &RunnerEvent| {
            let mut outcome = OutcomeSoFar::default();
            outcome.observe(event);
            outcome
        };
        let mut merged = of(&stats(&[], &[], &["b"]));
        merged.merge(&of(&stats(&[], &[], &["a", "c"])), 2);
        assert_eq!(merged.stats.as_ref().unwrap().len(), 2);
        assert_eq!(merged.final_states().run, RunStatus::Success);
        merged.merge(&of(&stats(&[("d", 1)], &[], &[])), 2);
        assert_eq!(merged.stats.as_ref().unwrap().len(), 2);
        assert_eq!(merged.final_states().run, RunStatus::Failure);
        let mut known = of(&stats(&[("a", 1)], &[], &["b"]));
        known.merge(&of(&stats(&[], &[], &["a"])), 2);
        assert_eq!(known.final_states().run, RunStatus::Success, "known hosts are replaced");
    }

    #[test]
    fn silence_is_a_failure() {
        assert_eq!(states(&[]).run, RunStatus::Failure);
    }
}
