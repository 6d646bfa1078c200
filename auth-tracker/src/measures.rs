//! What the metrics of this crate mean, told to whoever collects them.

use metrics::{describe_counter, describe_gauge};

/// Describes those of an instance.
pub(crate) fn describe_feed() {
    describe_gauge!(
        "dispatcher_auth_direct",
        "1 while this instance asks the sources of the auth state itself."
    );
    describe_gauge!(
        "dispatcher_auth_state_age_seconds",
        "How long ago the source of a part of the auth state was last heard."
    );
    describe_counter!(
        "dispatcher_auth_snapshots_refused_total",
        "Looks at Redis that did not bring a usable snapshot."
    );
    describe_fetches();
}

/// Describes those of a tracker.
pub(crate) fn describe_tracker() {
    describe_gauge!("dispatcher_tracker_active", "1 while this tracker is the active one.");
    describe_counter!(
        "dispatcher_tracker_snapshots_total",
        "Snapshots that this tracker published."
    );
    describe_counter!(
        "dispatcher_auth_drains_total",
        "Times that last-authentication times were written down."
    );
    describe_counter!(
        "dispatcher_auth_drained_times_total",
        "Last-authentication times that were written down."
    );
    describe_fetches();
}

/// Describes those of a collector.
pub(crate) fn describe_collector() {
    describe_counter!(
        "dispatcher_last_auth_dropped_total",
        "Times of last authentication that were lost because too many could not be handed on."
    );
}

fn describe_fetches() {
    describe_counter!("dispatcher_auth_sso_fetches_total", "Fetches of the SSO server's keys.");
}
