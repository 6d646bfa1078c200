//! Dispatches that are repeated under an `Idempotency-Key`: replayed, in flight, another body.

use dispatcher_api::connector::SendError;
use dispatcher_tests::{connector::ScriptedConnector, rows, service::InProcess};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::runs_dispatch::{FOREIGN, item, present};

fn request(service: &InProcess, key: &str, body: &Value) -> reqwest::RequestBuilder {
    let request = service.request(Method::POST, "/internal/v2/dispatch").json(body);
    request.header("idempotency-key", key)
}

/// Status, whether it was replayed, and the bytes.
async fn send(service: &InProcess, key: &str, body: &Value) -> (StatusCode, bool, String) {
    let answer = request(service, key, body).send().await.unwrap();
    let replayed = answer.headers().get("idempotency-replayed").is_some_and(|it| it == "true");
    (answer.status(), replayed, answer.text().await.unwrap())
}

fn runs(service: &InProcess) -> i64 {
    rows::counts(&service.database()).unwrap()["runs"]
}

#[tokio::test]
async fn a_repetition_gets_the_same_bytes_and_makes_nothing() {
    let service = InProcess::start().await.unwrap();
    let own = present(&service).await;
    let body = json!([item(own, &json!({})), item(FOREIGN, &json!({}))]);
    let (status, replayed, first) = send(&service, "k", &body).await;
    assert_eq!((status, replayed), (StatusCode::MULTI_STATUS, false));
    let again = send(&service, "k", &body).await;
    assert_eq!(again, (StatusCode::MULTI_STATUS, true, first.clone()));
    assert_eq!(runs(&service), 1);
    let (_, replayed, other) = send(&service, "another", &body).await;
    assert!(!replayed && other != first);
    assert_eq!(runs(&service), 2);
}

#[tokio::test]
async fn another_body_under_the_same_key_is_refused() {
    let service = InProcess::start().await.unwrap();
    let own = present(&service).await;
    send(&service, "k", &json!([item(own, &json!({}))])).await;
    let (status, _, text) = send(&service, "k", &json!([item(own, &json!({"name": "b"}))])).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(text.contains("idempotency_key_reused"), "{text}");
    assert_eq!(runs(&service), 1);
}

#[tokio::test]
async fn a_key_that_has_expired_is_free() {
    let service = InProcess::start().await.unwrap();
    let own = present(&service).await;
    let body = json!([item(own, &json!({}))]);
    let (_, _, first) = send(&service, "k", &body).await;
    let hours = "SELECT (expires_at / 1000000 - unixepoch()) / 3600 FROM idempotency";
    let hours: i64 = rows::value(&service.database(), hours).unwrap();
    assert!((23..=24).contains(&hours), "kept for {hours} h");
    rows::change(&service.database(), "UPDATE idempotency SET expires_at = 0").unwrap();
    let (status, replayed, second) = send(&service, "k", &body).await;
    assert_eq!((status, replayed), (StatusCode::MULTI_STATUS, false));
    assert_ne!(first, second);
    assert!(send(&service, "k", &body).await.1, "and is used again");
}

#[tokio::test]
async fn keys_that_are_none_are_refused() {
    let service = InProcess::start().await.unwrap();
    let own = present(&service).await;
    let body = json!([item(own, &json!({}))]);
    for key in ["", "a b", &"x".repeat(256)] {
        let (status, _, text) = send(&service, key, &body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(text.contains("invalid_idempotency_key"), "{text}");
    }
    let twice = request(&service, "a", &body).header("idempotency-key", "b").send().await.unwrap();
    assert_eq!(twice.status(), StatusCode::BAD_REQUEST);
    assert_eq!(runs(&service), 0);
}

#[tokio::test]
async fn a_refused_request_takes_no_key() {
    let service = InProcess::start().await.unwrap();
    let own = present(&service).await;
    let broken = json!([item(own, &json!({"recipient_config": {"sat_org_id": "5"}}))]);
    assert_eq!(send(&service, "k", &broken).await.0, StatusCode::BAD_REQUEST);
    let good = json!([item(own, &json!({}))]);
    assert_eq!(send(&service, "k", &good).await.0, StatusCode::MULTI_STATUS);
}

#[tokio::test]
async fn many_at_once_make_one_run() {
    let service = InProcess::start().await.unwrap();
    let own = present(&service).await;
    let body = json!([item(own, &json!({}))]);
    let sends = (0..10).map(|_| send(&service, "k", &body));
    let answers = futures_util::future::join_all(sends).await;
    assert_eq!(runs(&service), 1);
    assert_eq!(answers.iter().filter(|(_, replayed, _)| !replayed).count(), 1);
    assert!(answers.iter().all(|(_, _, text)| *text == answers[0].2));
}

#[tokio::test]
async fn a_request_that_still_sends_is_in_flight_even_when_its_caller_hangs_up() {
    let connector = ScriptedConnector::closed();
    let service = InProcess::start_connected(&[], connector.clone()).await.unwrap();
    let body = json!([item(FOREIGN, &json!({}))]);
    let first = tokio::spawn(request(&service, "k", &body).send());
    while connector.sent().is_empty() {
        tokio::task::yield_now().await;
    }
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());

    let second = request(&service, "k", &body).send().await.unwrap();
    assert_eq!(second.status(), StatusCode::CONFLICT);
    assert_eq!(second.headers()["retry-after"], "1");
    let problem: Value = second.json().await.unwrap();
    assert_eq!(problem["error_code"], "idempotency_in_flight");
    let hours = "SELECT (expires_at / 1000000 - unixepoch()) / 3600 FROM idempotency";
    let hours: i64 = rows::value(&service.database(), hours).unwrap();
    assert!((23..=24).contains(&hours), "in flight for {hours} h");

    connector.let_through(1);
    let (status, text) = loop {
        match send(&service, "k", &body).await {
            (StatusCode::CONFLICT, ..) => tokio::task::yield_now().await,
            (status, replayed, text) => {
                assert!(replayed);
                break (status, text);
            }
        }
    };
    assert_eq!(status, StatusCode::MULTI_STATUS);
    let sent = connector.sent();
    let [run] = sent.as_slice() else { panic!("sent {} times", sent.len()) };
    assert!(text.contains(&run.to_string()), "{text}");
    assert_eq!(rows::counts(&service.database()).unwrap()["run_dispatch"], 0);
}

#[tokio::test]
async fn failed_messages_are_replayed_as_they_were_and_never_sent_again() {
    let connector = ScriptedConnector::open();
    connector.fail(FOREIGN.parse().unwrap(), SendError::Ambiguous("cut".to_owned()));
    let service = InProcess::start_connected(&[], connector.clone()).await.unwrap();
    let body = json!([item(FOREIGN, &json!({}))]);
    let (_, _, first) = send(&service, "k", &body).await;
    let unexpected = json!([{"code": 500, "message": "Unexpected error during processing"}]);
    assert_eq!(serde_json::from_str::<Value>(&first).unwrap(), unexpected);
    assert_eq!(send(&service, "k", &body).await, (StatusCode::MULTI_STATUS, true, first));
    assert_eq!(connector.sent().len(), 1);
}
