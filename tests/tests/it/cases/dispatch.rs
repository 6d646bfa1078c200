//! Runs and run hosts: created, listed, read, canceled, sent.

use dispatcher_tests::conformance::{
    cancel, hosts, idempotency, labels, logs, model, runs, sending,
};

use super::super::subject;

#[tokio::test(flavor = "multi_thread")]
async fn runs_order_and_ties() {
    runs::order_and_ties(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_pages() {
    runs::pages(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_deep_pages() {
    runs::deep_pages(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_rows_come_back_whole() {
    runs::rows_come_back_whole(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_a_batch_is_created_whole_or_not_at_all() {
    runs::a_batch_is_created_whole_or_not_at_all(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_a_batch_created_twice_is_there_once() {
    runs::a_batch_created_twice_is_there_once(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_organisations_are_apart() {
    runs::organisations_are_apart(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_services_and_recipients() {
    runs::services_and_recipients(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_status_is_judged_at_the_time_of_asking() {
    runs::status_is_judged_at_the_time_of_asking(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_creation_is_told_once() {
    runs::creation_is_told_once(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_all_must_be_there() {
    labels::all_must_be_there(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_hostile_texts_are_only_texts() {
    labels::hostile_texts_are_only_texts(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_nul_matches_nothing() {
    labels::nul_matches_nothing(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_a_thousand_labels() {
    labels::a_thousand_labels(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_null_and_other_json() {
    labels::null_and_other_json(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_order_and_pages() {
    hosts::order_and_pages(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_rows_come_back_whole() {
    hosts::rows_come_back_whole(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_filters() {
    hosts::filters(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_status_filters() {
    hosts::status_filters(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_logs_of_runs_that_go_on() {
    hosts::logs_of_runs_that_go_on(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_stored_logs_are_capped() {
    hosts::stored_logs_are_capped(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn model_lists_are_what_a_model_says() {
    model::lists_are_what_a_model_says(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_slices_of_chunks() {
    logs::slices_of_chunks(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_slices_of_host_logs() {
    logs::slices_of_host_logs(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_without_hosts_and_without_runs() {
    logs::without_hosts_and_without_runs(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_a_long_output_in_pieces() {
    logs::a_long_output_in_pieces(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idempotency_in_flight_then_replayed() {
    idempotency::in_flight_then_replayed(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idempotency_answered_at_once() {
    idempotency::answered_at_once(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idempotency_other_bodies_and_other_owners() {
    idempotency::other_bodies_and_other_owners(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idempotency_the_same_runs_again() {
    idempotency::the_same_runs_again(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idempotency_expiry_by_the_time_of_the_runs() {
    idempotency::expiry_by_the_time_of_the_runs(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idempotency_expired_keys_are_free() {
    idempotency::expired_keys_are_free(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idempotency_finishing_sets_the_expiry() {
    idempotency::finishing_sets_the_expiry(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idempotency_failures_take_no_key() {
    idempotency::failures_take_no_key(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idempotency_used_by_many_at_once() {
    idempotency::used_by_many_at_once(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_pending_work_is_canceled() {
    cancel::pending_work_is_canceled(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_work_under_way_is_marked() {
    cancel::work_under_way_is_marked(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_expired_runs_are_not_running() {
    cancel::expired_runs_are_not_running(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_outcomes_are_in_order() {
    cancel::outcomes_are_in_order(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_abandoned_work_is_ended_by_the_next_claim() {
    cancel::abandoned_work_is_ended_by_the_next_claim(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sending_accepted_runs_are_told_once() {
    sending::accepted_runs_are_told_once(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sending_refused_runs_are_gone() {
    sending::refused_runs_are_gone(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sending_doubt_is_settled_by_an_upload() {
    sending::doubt_is_settled_by_an_upload(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sending_doubt_is_settled_by_the_timeout() {
    sending::doubt_is_settled_by_the_timeout(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sending_runs_of_workers_are_not_settled() {
    sending::runs_of_workers_are_not_settled(&subject().await).await;
}
