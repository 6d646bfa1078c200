//! The audit log over the real router: what people and keys change is in it, once.

use dispatcher_tests::{
    process::BASE,
    service::{InProcess, KEY, ORG, ORG_ADMIN_KEY},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::runs_dispatch::{FOREIGN, item, present};

async fn log(service: &InProcess, query: &str) -> Vec<Value> {
    let request = service.admin(Method::GET, &format!("{BASE}/audit{query}"));
    let body: Value = request.send().await.unwrap().json().await.unwrap();
    body["data"].as_array().unwrap_or_else(|| panic!("{body}")).clone()
}

async fn dispatch(service: &InProcess, key: &str, items: &Value) -> Value {
    let request = service.request(Method::POST, "/internal/v2/dispatch").json(items);
    let request = request.header("idempotency-key", key);
    let answer = request.header("x-rh-insights-request-id", "req-1").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::MULTI_STATUS);
    answer.json().await.unwrap()
}

#[tokio::test]
async fn a_dispatch_is_one_row_with_its_runs_and_a_replay_is_none() {
    let service = InProcess::start().await.unwrap();
    let own = present(&service).await;
    let items = json!([item(own, &json!({})), item(own, &json!({})), item(FOREIGN, &json!({}))]);
    let answers = dispatch(&service, "k", &items).await;
    dispatch(&service, "k", &items).await;
    let rows = log(&service, "").await;
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!((&row["action"], &row["target"]), (&json!("run.dispatch"), &json!("2 runs")));
    assert_eq!((&row["principal_kind"], &row["principal_id"]), (&json!("service"), &json!("test")));
    assert_eq!((&row["org_id"], &row["request_id"]), (&json!(ORG), &json!("req-1")));
    let runs = json!([answers[0]["id"], answers[1]["id"]]);
    assert_eq!(row["detail"], json!({"count": 2, "runs": runs}));
    dispatch(&service, "other", &json!([item(FOREIGN, &json!({}))])).await;
    assert_eq!(log(&service, "").await.len(), 1, "nothing was created");
}

#[tokio::test]
async fn cancellations_and_playbooks_are_in_the_log() {
    let service = InProcess::start().await.unwrap();
    let own = present(&service).await;
    let answers = dispatch(&service, "k", &json!([item(own, &json!({}))])).await;
    let cancel = json!([{"run_id": answers[0]["id"], "org_id": ORG, "principal": "me"}]);
    for _ in 0..2 {
        let request = service.request(Method::POST, "/internal/v2/cancel").json(&cancel);
        assert_eq!(request.send().await.unwrap().status(), StatusCode::MULTI_STATUS);
        let put = service.request(Method::PUT, &format!("{BASE}/playbooks/site.yml"));
        assert!(put.body("- hosts: all\n").send().await.unwrap().status().is_success());
    }
    let rows = log(&service, "").await;
    let actions: Vec<_> = rows.iter().map(|row| row["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["playbook.put", "run.cancel", "run.dispatch"]);
    assert_eq!(rows[0]["target"], "site.yml");
    assert_eq!(rows[1]["target"], answers[0]["id"]);
    assert_eq!(log(&service, "?action=run.").await.len(), 2);
    assert_eq!(log(&service, "?action=run.cancel&principal=test").await.len(), 1);
    assert_eq!(log(&service, "?principal=nobody").await.len(), 0);
    assert_eq!(log(&service, "?since=2999-01-01T00:00:00Z").await.len(), 0);
    assert_eq!(log(&service, "?limit=1&offset=1").await.len(), 1);
    let bad = service.admin(Method::GET, &format!("{BASE}/audit?since=yesterday"));
    assert_eq!(bad.send().await.unwrap().status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn an_organisations_admin_sees_its_own_rows() {
    let service = InProcess::start().await.unwrap();
    for (org, name) in [(ORG, "ours"), ("other", "theirs")] {
        let put = service.as_key(KEY, Method::PUT, &format!("{BASE}/playbooks/{name}"));
        let put = put.header("x-dispatcher-org", org).body("- hosts: all\n");
        assert_eq!(put.send().await.unwrap().status(), StatusCode::CREATED);
    }
    let ask = async |query: &str| {
        let request = service.as_key(ORG_ADMIN_KEY, Method::GET, &format!("{BASE}/audit{query}"));
        let body: Value = request.send().await.unwrap().json().await.unwrap();
        body["data"].clone()
    };
    let own = ask("").await;
    assert_eq!((own.as_array().unwrap().len(), &own[0]["target"]), (1, &json!("ours")));
    assert_eq!(ask("?org_id=other").await, json!([]));
    assert_eq!(log(&service, "").await.len(), 2);
    assert_eq!(log(&service, "?org_id=other").await[0]["target"], "theirs");
}

#[tokio::test]
async fn whoever_asks_for_events_again_is_in_the_log() {
    let service = InProcess::start().await.unwrap();
    let own = present(&service).await;
    dispatch(&service, "k", &json!([item(own, &json!({}))])).await;
    let path = format!("{BASE}/events/read");
    let refused = service.request(Method::POST, &path).json(&json!({"status": "done"}));
    assert_eq!(refused.send().await.unwrap().status(), StatusCode::BAD_REQUEST);
    let asked = json!({"service": "test", "status": "running", "since": "2026-01-01T00:00:00Z"});
    let read: Value = service
        .request(Method::POST, &path)
        .json(&asked)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(read["runs"], 1, "{read}");
    let rows = log(&service, "?action=events.").await;
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!((&row["action"], &row["target"]), (&json!("events.read"), &json!("events")));
    assert_eq!((&row["principal_id"], &row["org_id"]), (&json!("test"), &json!(ORG)));
    let detail = json!({"service": "test", "status": "running", "since": "2026-01-01T00:00:00Z",
        "goes_on": false});
    assert_eq!(row["detail"], detail);
}
