//! What the service manager hears: that this worker is ready, what it does, that it lives, that it
//! stops. Without one, nothing happens.

use std::time::Duration;

use dispatcher_worker::Activity;
use sd_notify::NotifyState;

/// Ready to execute runs.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Stopping.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("ending what is under way")]);
}

/// What it does.
pub(super) fn status(activity: &Activity, at_a_time: u32) {
    tell(&[NotifyState::Status(&line(activity, at_a_time))]);
}

/// Says that this process lives, as often as it is asked for, for ever.
pub(super) async fn watchdog() {
    let Some(asked) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    let mut every = tokio::time::interval((asked / 3).max(Duration::from_millis(100)));
    loop {
        every.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

fn line(activity: &Activity, at_a_time: u32) -> String {
    let Activity { runs, paused, away } = activity;
    let mut line = format!("{runs} of {at_a_time} playbooks under way");
    if let Some(why) = paused {
        line.push_str(&format!("; nothing new is taken: {why}"));
    }
    if let Some(why) = away {
        line.push_str(&format!("; {why}"));
    }
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(512).collect()
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_is_wrong() {
        let mut activity = Activity { runs: 1, ..Activity::default() };
        assert_eq!(line(&activity, 4), "1 of 4 playbooks under way");
        activity.paused = Some("no\nroom".to_owned());
        activity.away = Some("away".to_owned());
        let expected = "1 of 4 playbooks under way; nothing new is taken: no room; away";
        assert_eq!(line(&activity, 4), expected);
    }
}
