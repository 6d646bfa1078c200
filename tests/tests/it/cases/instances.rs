//! Leases, the registry of instances, and times of last authentication.

use dispatcher_tests::conformance::{instances, last_auth, leases};

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

#[tokio::test(flavor = "multi_thread")]
async fn last_auth_never_backwards() {
    last_auth::never_backwards(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn last_auth_one_call_may_repeat_itself() {
    last_auth::one_call_may_repeat_itself(&subject().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn last_auth_writers_at_once_agree() {
    last_auth::writers_at_once_agree(&subject().await).await;
}
