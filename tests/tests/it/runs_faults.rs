//! The process is killed between every two steps of a dispatch to a foreign host. The run is there
//! or it is not, it is sent at most once, and a repetition under the same key never sends again.

use dispatcher_tests::{
    process::{BASE, Service},
    rows,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::runs_dispatch::FOREIGN;

const MOCK: (&str, &str) = ("CLOUD_CONNECTOR_IMPL", "mock");

/// Dispatches under a key; nothing where the process died over it.
async fn dispatch(service: &Service) -> Option<(StatusCode, Value)> {
    let item = service.item("https://example.com/site.yml", &json!({"recipient": FOREIGN}));
    let request = service.request(Method::POST, "/internal/v2/dispatch").json(&json!([item]));
    let answer = request.header("idempotency-key", "once").send().await.ok()?;
    Some((answer.status(), answer.json().await.ok()?))
}

async fn runs(service: &Service) -> Vec<Value> {
    let list: Value = service.get(&format!("{BASE}/runs?fields[data]=id,status")).await.unwrap();
    list["data"].as_array().unwrap().clone()
}

#[tokio::test]
async fn killed_between_the_steps_of_sending() {
    for point in [
        "dispatch.before_commit",
        "dispatch.committed",
        "dispatch.sent",
        "dispatch.settled",
        "dispatch.before_answer",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let variables = [MOCK, ("DISPATCHER_CRASH_AT", point)];
        let mut service = Service::start_with(directory.path(), &variables).await.unwrap();
        assert!(dispatch(&service).await.is_none(), "{point}: it was answered");
        service.died().await.unwrap();

        let service = Service::start_with(directory.path(), &[MOCK]).await.unwrap();
        if point == "dispatch.before_commit" {
            assert!(runs(&service).await.is_empty());
            let (status, body) = dispatch(&service).await.unwrap();
            assert_eq!((status, &body[0]["code"]), (StatusCode::MULTI_STATUS, &json!(201)));
            continue;
        }
        let before = runs(&service).await;
        assert_eq!(before.len(), 1, "{point}");
        assert_eq!(before[0]["status"], "running", "{point}");
        let (status, _) = dispatch(&service).await.unwrap();
        assert_eq!(status, StatusCode::CONFLICT, "{point}: it is still in flight");
        assert_eq!(runs(&service).await, before, "{point}");

        // Nobody outside was told of a run that may not have been delivered.
        let told = "SELECT count(*) FROM outbox";
        let database = directory.path().join("dispatcher.db");
        let expected = i64::from(["dispatch.settled", "dispatch.before_answer"].contains(&point));
        assert_eq!(rows::value::<i64>(&database, told).unwrap(), expected, "{point}");
    }
}
