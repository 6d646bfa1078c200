//! What systemd is told: that the process is ready, lives, ends. Without systemd nothing is said.

use std::time::Duration;

use sd_notify::NotifyState;

/// How much longer a start may take that still waits, in microseconds: more than one attempt to reach
/// what is waited for.
const MORE_TIME: u32 = 60_000_000;

/// The process is ready for what it is there for.
pub fn ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The start waits for something, and is to be given more time: it says so again and again.
pub fn waiting(status: &str) {
    notify(&[NotifyState::Status(status), NotifyState::ExtendTimeoutUsec(MORE_TIME)]);
}

/// The process is about to end.
pub fn stopping(status: &str) {
    notify(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// The process lives.
pub fn alive() {
    notify(&[NotifyState::Watchdog]);
}

/// How often a sign of life is to be given; `None`: systemd does not ask this process for any, or
/// it is not wanted.
#[must_use]
pub fn sign_every(wanted: Option<Duration>) -> Option<Duration> {
    let asked = sd_notify::watchdog_enabled()?;
    Some(asked.min(wanted?) / 3)
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd was not told");
    }
}
