//! What others see of the process: systemd by its notifications, people and monitors by probes.
//!
//! The watchdog's sign is given by the tracker's own loop ([`Supervisor::turned`]) and by nothing
//! else, so that a process whose loop is stuck is replaced.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use auth_tracker::tracker::{Role, Status};
use sd_notify::NotifyState;

/// After so long without a turn of the loop, it counts as stuck.
const STUCK: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Seen {
    turned: Instant,
    watched: Option<Instant>,
    status: String,
    /// What is missing before requests for the state can be answered.
    missing: Vec<String>,
}

/// What others see of the process.
#[derive(Debug)]
pub(crate) struct Supervisor {
    watchdog: Option<Duration>,
    seen: Mutex<Seen>,
}

impl Supervisor {
    /// The process has begun.
    pub(crate) fn new() -> Self {
        let missing = vec!["start: it has not begun yet".to_owned()];
        let seen = Seen { turned: Instant::now(), watched: None, status: String::new(), missing };
        Self { watchdog: sd_notify::watchdog_enabled(), seen: Mutex::new(seen) }
    }

    /// The process does what it can: whatever is not there is tried again.
    pub(crate) fn is_ready(&self) {
        notify(&[NotifyState::Ready]);
    }

    /// It cannot begin before something is there.
    pub(crate) fn waits_for(&self, what: &str) {
        let status = format!("waiting for {what}");
        self.looks(status.clone(), vec![status]);
    }

    /// The tracker's loop has turned.
    pub(crate) fn turned(&self, status: &Status) {
        let missing: Vec<_> =
            status.problems.iter().map(|(name, problem)| format!("{name}: {problem}")).collect();
        let role = match status.role {
            Role::Starting => "starting".to_owned(),
            Role::StandBy => "standing by".to_owned(),
            Role::Active(epoch) => {
                format!("active, epoch {epoch}, auth version {}", status.auth_version)
            }
        };
        let text =
            if missing.is_empty() { role } else { format!("{role}; {}", missing.join("; ")) };
        self.looks(text, missing);
    }

    /// The process is about to end.
    pub(crate) fn stops(&self) {
        notify(&[NotifyState::Stopping, NotifyState::Status("ending")]);
    }

    /// Why the process should be replaced, if it should.
    pub(crate) fn stuck(&self) -> Option<String> {
        let silent = self.seen().turned.elapsed();
        (silent > STUCK).then(|| format!("loop: it has not turned for {} s", silent.as_secs()))
    }

    /// What keeps the process from its work.
    pub(crate) fn missing(&self) -> Vec<String> {
        self.stuck().into_iter().chain(self.seen().missing.iter().cloned()).collect()
    }

    fn looks(&self, status: String, missing: Vec<String>) {
        let now = Instant::now();
        let mut seen = self.seen();
        seen.turned = now;
        seen.missing = missing;
        let due = |period: Duration| seen.watched.is_none_or(|at| now - at >= period / 3);
        if self.watchdog.is_some_and(due) {
            notify(&[NotifyState::Watchdog]);
            seen.watched = Some(now);
        }
        if seen.status != status {
            notify(&[NotifyState::Status(&status)]);
            seen.status = status;
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells systemd, where there is one.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd was not told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_work_is_missing_and_goes_when_it_works() {
        let supervisor = Supervisor::new();
        assert_eq!(supervisor.missing().len(), 1);
        supervisor.waits_for("the database");
        assert!(supervisor.missing()[0].contains("the database"));
        let mut status = Status { role: Role::Active(3), ..Status::default() };
        status.problems.insert("redis", "gone".to_owned());
        supervisor.turned(&status);
        assert_eq!(supervisor.missing(), ["redis: gone"]);
        supervisor.turned(&Status { role: Role::StandBy, ..Status::default() });
        assert!(supervisor.missing().is_empty() && supervisor.stuck().is_none());
        assert_eq!(supervisor.seen().status, "standing by");
    }
}
