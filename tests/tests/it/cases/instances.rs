//! Leases and the registry of instances.

use dispatcher_tests::conformance::{instances, leases};

use super::super::subject;

#[tokio::test(flavor = "multi_thread")]
async fn leases_one_holder_at_a_time() {
    leases::one_holder_at_a_time(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_given_back_it_is_free() {
    leases::given_back_it_is_free(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_over_it_goes_to_another() {
    leases::over_it_goes_to_another(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_asked_for_at_once_one_gets_it() {
    leases::asked_for_at_once_one_gets_it(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_what_was_said_last_counts() {
    instances::what_was_said_last_counts(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_silence_is_noticed() {
    instances::silence_is_noticed(&subject().await).await;
}
