//! The audit log and the keys of services.

use dispatcher_tests::conformance::audit;

use super::super::subject;

#[tokio::test(flavor = "multi_thread")]
async fn audit_rows_come_back_newest_first() {
    audit::rows_come_back_newest_first(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_rows_are_narrowed_down() {
    audit::rows_are_narrowed_down(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_a_dispatch_is_logged_once() {
    audit::a_dispatch_is_logged_once(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_a_cancellation_is_logged_once() {
    audit::a_cancellation_is_logged_once(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_a_playbook_is_logged_where_it_changed() {
    audit::a_playbook_is_logged_where_it_changed(&subject().await).await;
}
