//! Events on their way to consumers, and what is kept for a while only.

use dispatcher_tests::conformance::{events, feed, retention};

use super::super::subject;

#[tokio::test(flavor = "multi_thread")]
async fn events_read_in_the_order_of_each_run() {
    events::read_in_the_order_of_each_run(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_a_heartbeat_is_told_to_nobody() {
    events::a_heartbeat_is_told_to_nobody(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_output_is_bounded() {
    events::output_is_bounded(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_marked_by_right_only() {
    events::marked_by_right_only(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_what_waits_is_counted() {
    events::what_waits_is_counted(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_only_what_a_broker_has_is_forgotten() {
    events::only_what_a_broker_has_is_forgotten(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_told_again_on_demand() {
    events::told_again_on_demand(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_told_again_while_it_changes() {
    events::told_again_while_it_changes(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_output_goes_and_runs_stay() {
    retention::output_goes_and_runs_stay(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_runs_go_with_all_that_is_theirs() {
    retention::runs_go_with_all_that_is_theirs(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_counting_changes_nothing() {
    retention::counting_changes_nothing(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_work_that_goes_on_is_waited_for() {
    retention::work_that_goes_on_is_waited_for(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_uploads_and_audit_by_age() {
    retention::uploads_and_audit_by_age(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_purges_beside_work() {
    retention::purges_beside_work(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn feed_in_order_from_any_place() {
    feed::in_order_from_any_place(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn feed_what_is_forgotten_is_said() {
    feed::what_is_forgotten_is_said(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn feed_places_ahead_are_said() {
    feed::places_ahead_are_said(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn feed_of_one_run() {
    feed::of_one_run(&subject().await).await;
}
