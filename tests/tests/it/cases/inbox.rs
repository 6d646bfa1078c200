//! Uploads, what time does, stored playbooks.

use dispatcher_tests::conformance::{inbox, playbooks, satellites, upkeep, uploads};

use super::super::subject;

#[tokio::test(flavor = "multi_thread")]
async fn inbox_received_once() {
    inbox::received_once(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inbox_claimed_oldest_first_with_a_lease() {
    inbox::claimed_oldest_first_with_a_lease(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inbox_claimed_by_one() {
    inbox::claimed_by_one(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inbox_given_up_at_last() {
    inbox::given_up_at_last(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inbox_put_back_it_does_not_count() {
    inbox::put_back_it_does_not_count(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inbox_rejected_with_the_reason() {
    inbox::rejected_with_the_reason(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inbox_what_is_not_needed() {
    inbox::what_is_not_needed(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn inbox_listed_newest_first() {
    inbox::listed_newest_first(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_a_run_reports_itself() {
    uploads::a_run_reports_itself(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_states_obey_the_rules() {
    uploads::states_obey_the_rules(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_the_run_is_found() {
    uploads::the_run_is_found(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_applied_once() {
    uploads::applied_once(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_a_late_success_replaces_a_timeout() {
    uploads::a_late_success_replaces_a_timeout(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_runs_of_workers_are_left_alone() {
    uploads::runs_of_workers_are_left_alone(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_hosts_that_the_end_does_not_name() {
    uploads::hosts_that_the_end_does_not_name(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_overtaken() {
    uploads::overtaken(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upkeep_a_result_wins_whoever_is_first() {
    upkeep::a_result_wins_whoever_is_first(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upkeep_runs_and_hosts_time_out() {
    upkeep::runs_and_hosts_time_out(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upkeep_limited_per_call() {
    upkeep::limited_per_call(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upkeep_final_runs_stay() {
    upkeep::final_runs_stay(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upkeep_hosts_of_earlier_timeouts() {
    upkeep::hosts_of_earlier_timeouts(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upkeep_unstarted_work_is_over() {
    upkeep::unstarted_work_is_over(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upkeep_started_work_is_asked_to_end() {
    upkeep::started_work_is_asked_to_end(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upkeep_many_cleaners_at_once() {
    upkeep::many_cleaners_at_once(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upkeep_forgetting() {
    upkeep::forgetting(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upkeep_forgetting_is_limited_per_call() {
    upkeep::forgetting_is_limited_per_call(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upkeep_ping() {
    upkeep::ping(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn playbooks_put_and_get() {
    playbooks::put_and_get(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn playbooks_listed_by_name() {
    playbooks::listed_by_name(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn playbooks_content_is_found_by_organisation() {
    playbooks::content_is_found_by_organisation(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_nul_is_replaced() {
    uploads::nul_is_replaced(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn satellites_a_run_reports_its_hosts() {
    satellites::a_run_reports_its_hosts(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn satellites_pieces_find_their_places() {
    satellites::pieces_find_their_places(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn satellites_an_end_is_an_end() {
    satellites::an_end_is_an_end(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn satellites_only_the_end_of_a_run_is_needed() {
    satellites::only_the_end_of_a_run_is_needed(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn satellites_what_is_known_goes_with_the_run() {
    satellites::what_is_known_goes_with_the_run(&subject().await).await;
}
