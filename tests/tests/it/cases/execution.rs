//! Work: claimed, appended, finished; who may do it.

use dispatcher_tests::conformance::{append, claims, finish, recipients, registrations};

use super::super::subject;

#[tokio::test(flavor = "multi_thread")]
async fn claims_one_run_per_recipient_oldest_first() {
    claims::one_run_per_recipient_oldest_first(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_ties_by_id() {
    claims::ties_by_id(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_claimed_work_is_complete() {
    claims::claimed_work_is_complete(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_sixteen_at_once() {
    claims::sixteen_at_once(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_leases_end_before_the_start() {
    claims::leases_end_before_the_start(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_empty_batches_renew() {
    claims::empty_batches_renew(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_started_work_is_never_handed_out_again() {
    claims::started_work_is_never_handed_out_again(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_a_late_worker_stays_busy() {
    claims::a_late_worker_stays_busy(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_five_attempts_then_failed() {
    claims::five_attempts_then_failed(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_bells_of_many() {
    claims::bells_of_many(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_only_runs_that_run() {
    claims::only_runs_that_run(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_busy_with() {
    claims::busy_with(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn append_overlaps_are_skipped_and_gaps_refused() {
    append::overlaps_are_skipped_and_gaps_refused(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn append_foreign_claims_change_nothing() {
    append::foreign_claims_change_nothing(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn append_hosts_are_created_once() {
    append::hosts_are_created_once(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn append_hosts_have_a_limit() {
    append::hosts_have_a_limit(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn append_as_many_hosts_as_allowed() {
    append::as_many_hosts_as_allowed(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn append_output_has_a_limit() {
    append::output_has_a_limit(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn append_outcomes_are_merged() {
    append::outcomes_are_merged(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn append_late_records_are_taken_and_answered() {
    append::late_records_are_taken_and_answered(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn finish_counts_decide() {
    finish::counts_decide(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn finish_errors_decide_and_are_kept() {
    finish::errors_decide_and_are_kept(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn finish_silence_is_a_failure() {
    finish::silence_is_a_failure(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn finish_repeated_it_changes_nothing() {
    finish::repeated_it_changes_nothing(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn finish_gaps_and_foreign_claims() {
    finish::gaps_and_foreign_claims(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn finish_inputs_are_deleted() {
    finish::inputs_are_deleted(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn finish_late_ends_over_a_timeout() {
    finish::late_ends_over_a_timeout(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn finish_host_logs_are_capped() {
    finish::host_logs_are_capped(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn finish_what_is_no_text_is_replaced() {
    finish::what_is_no_text_is_replaced(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn finish_unstarted_work_can_be_finished() {
    finish::unstarted_work_can_be_finished(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recipients_registering_again_replaces_name_and_key() {
    recipients::registering_again_replaces_name_and_key(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recipients_other_organisations_cannot_take_it() {
    recipients::other_organisations_cannot_take_it(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recipients_presence_of_many() {
    recipients::presence_of_many(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recipients_presence_never_moves_backwards() {
    recipients::presence_never_moves_backwards(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recipients_listed_with_their_active_runs() {
    recipients::listed_with_their_active_runs(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_repeated_requests_get_the_same_answer() {
    claims::repeated_requests_get_the_same_answer(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn registrations_a_token_registers_once() {
    registrations::a_token_registers_once(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn registrations_what_is_registered_is_replaced_by_admins_only() {
    registrations::what_is_registered_is_replaced_by_admins_only(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn registrations_labels_facts_and_removal() {
    registrations::labels_facts_and_removal(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn registrations_tokens_have_a_limit() {
    registrations::tokens_have_a_limit(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_as_many_as_the_worker_may_hold() {
    claims::as_many_as_the_worker_may_hold(&subject().await).await;
}
