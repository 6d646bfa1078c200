//! The audit log and the keys of services.

use dispatcher_tests::conformance::{audit, keys};

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

#[tokio::test(flavor = "multi_thread")]
async fn keys_a_key_is_made_with_a_version() {
    keys::a_key_is_made_with_a_version(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_an_id_is_taken_once() {
    keys::an_id_is_taken_once(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_two_are_live_at_most() {
    keys::two_are_live_at_most(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_a_successor_ends_the_old_key() {
    keys::a_successor_ends_the_old_key(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_revoked_once() {
    keys::revoked_once(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_listed_by_service() {
    keys::listed_by_service(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_many_at_once_make_two() {
    keys::many_at_once_make_two(&subject().await).await;
}
