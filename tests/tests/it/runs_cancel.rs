//! Cancel over the real router: every code of the contract, on our workers and elsewhere.

use dispatcher_api::connector::SendError;
use dispatcher_tests::{
    connector::ScriptedConnector,
    process::BASE,
    rows,
    service::{InProcess, ORG},
    worker,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::runs_dispatch::{FOREIGN, item};

const SATELLITE: &str = "9274c274-a258-4d00-91fe-dbe0f7849cef";

async fn dispatch(service: &InProcess, item: Value) -> Uuid {
    let request = service.request(Method::POST, "/internal/v2/dispatch").json(&json!([item]));
    let body: Value = request.send().await.unwrap().json().await.unwrap();
    body[0]["id"].as_str().unwrap_or_else(|| panic!("{body}")).parse().unwrap()
}

async fn dispatch_satellite(service: &InProcess, recipient: &str) -> Uuid {
    let satellite = json!({
        "recipient_config": {"sat_id": SATELLITE, "sat_org_id": "5"},
        "hosts": [{"inventory_id": SATELLITE}],
    });
    dispatch(service, item(recipient, &satellite)).await
}

async fn cancel_as(service: &InProcess, runs: &[Uuid], org_id: &str) -> Vec<Value> {
    let items: Vec<Value> = runs
        .iter()
        .map(|run| json!({"run_id": run, "org_id": org_id, "principal": "tester"}))
        .collect();
    let request = service.request(Method::POST, "/internal/v2/cancel").json(&items);
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::MULTI_STATUS);
    answer.json().await.unwrap()
}

async fn code(service: &InProcess, run: Uuid) -> u64 {
    let answers = cancel_as(service, &[run], ORG).await;
    let code = answers[0]["code"].as_u64().unwrap();
    let id = if code == 202 { run } else { Uuid::nil() };
    assert_eq!(answers, [json!({"code": code, "run_id": id})]);
    code
}

async fn run(service: &InProcess, id: Uuid) -> Value {
    let request = service.request(Method::GET, &format!("{BASE}/runs/{id}"));
    request.send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
}

#[tokio::test]
async fn a_waiting_run_is_canceled_at_once() {
    let service = InProcess::start().await.unwrap();
    let worker = service.worker().await.unwrap();
    worker.wait(0).await.unwrap();
    let hosts = json!({"hosts": [{"ansible_host": "a"}]});
    let id = dispatch(&service, item(worker.recipient, &hosts)).await;
    assert_eq!(code(&service, id).await, 202);
    assert_eq!(run(&service, id).await["status"], "canceled");
    let host = "SELECT status FROM run_hosts";
    assert_eq!(rows::value::<String>(&service.database(), host).unwrap(), "canceled");
    assert!(worker.claim().await.unwrap().is_none(), "it is not handed out any more");
    assert_eq!(code(&service, id).await, 409, "it is final");
}

#[tokio::test]
async fn a_started_run_is_asked_to_end() {
    let service = InProcess::start().await.unwrap();
    let worker = service.worker().await.unwrap();
    worker.wait(0).await.unwrap();
    let id = dispatch(&service, item(worker.recipient, &json!({}))).await;
    let claimed = worker.claimed().await.unwrap();
    let reply = worker.append(&claimed, 0, &[worker::start(&claimed)]).await.unwrap();
    assert!(!reply.cancel);

    // The doorbell rings while the worker waits for it.
    let waiting = worker.clone();
    let waiting = tokio::spawn(async move { waiting.wait(30).await });
    tokio::task::yield_now().await;
    assert_eq!(code(&service, id).await, 202);
    let rung = tokio::time::timeout(std::time::Duration::from_secs(10), waiting).await;
    assert_eq!(rung.unwrap().unwrap().unwrap().cancel, [id]);
    assert_eq!(run(&service, id).await["status"], "running");
    assert_eq!(code(&service, id).await, 202, "asking again is no error");
    assert!(worker.append(&claimed, 1, &[]).await.unwrap().cancel);
}

#[tokio::test]
async fn every_code_and_the_zero_id_in_the_order_of_the_request() {
    let service = InProcess::start().await.unwrap();
    let worker = service.worker().await.unwrap();
    worker.wait(0).await.unwrap();
    let first = dispatch(&service, item(worker.recipient, &json!({}))).await;
    let second = dispatch(&service, item(worker.recipient, &json!({}))).await;
    let expired = dispatch(&service, item(worker.recipient, &json!({"timeout": 0}))).await;
    let zero = Uuid::nil();
    let answers = cancel_as(&service, &[first, Uuid::new_v4(), second, expired], ORG).await;
    assert_eq!(
        answers,
        [
            json!({"code": 202, "run_id": first}),
            json!({"code": 404, "run_id": zero}),
            json!({"code": 202, "run_id": second}),
            json!({"code": 409, "run_id": zero}),
        ]
    );
    let third = dispatch(&service, item(worker.recipient, &json!({}))).await;
    let before = rows::counts(&service.database()).unwrap();
    let answers = cancel_as(&service, &[third], "other").await;
    assert_eq!(answers, [json!({"code": 400, "run_id": zero})]);
    assert_eq!(run(&service, third).await["status"], "running");
    assert_eq!(rows::counts(&service.database()).unwrap(), before);
}

#[tokio::test]
async fn runs_elsewhere_follow_the_contract() {
    let connector = ScriptedConnector::open();
    let service = InProcess::start_connected(&[], connector.clone()).await.unwrap();
    let foreign = dispatch(&service, item(FOREIGN, &json!({}))).await;
    assert_eq!(code(&service, foreign).await, 400);
    let final_too = "UPDATE runs SET status = 'success'";
    rows::change(&service.database(), final_too).unwrap();
    assert_eq!(code(&service, foreign).await, 400, "what it is comes before its state");

    let satellite = dispatch_satellite(&service, FOREIGN).await;
    assert_eq!(code(&service, satellite).await, 202);
    assert_eq!(run(&service, satellite).await["status"], "running", "its uploads will say");
    let recipient: Uuid = FOREIGN.parse().unwrap();
    connector.fail(recipient, SendError::NotConnected);
    assert_eq!(code(&service, satellite).await, 409);
    connector.fail(recipient, SendError::Ambiguous("timeout".to_owned()));
    assert_eq!(code(&service, satellite).await, 500);
    connector.fail(recipient, SendError::Refused("no".to_owned()));
    assert_eq!(code(&service, satellite).await, 500);
    rows::change(&service.database(), final_too).unwrap();
    assert_eq!(code(&service, satellite).await, 409);
}

#[tokio::test]
async fn bad_cancellations_change_nothing() {
    let service = InProcess::start().await.unwrap();
    let worker = service.worker().await.unwrap();
    worker.wait(0).await.unwrap();
    let id = dispatch(&service, item(worker.recipient, &json!({}))).await;
    let before = rows::counts(&service.database()).unwrap();
    let good = json!({"run_id": id, "org_id": ORG, "principal": "tester"});
    let with = |name: &str, value: Value| {
        let mut bad = good.clone();
        bad[name] = value;
        json!([good, bad])
    };
    let missing = |name: &str| {
        let mut bad = good.clone();
        bad.as_object_mut().unwrap().shift_remove(name);
        json!([good, bad])
    };
    for (bad, reason) in [
        (json!([]), "minimum number of items is 1"),
        (json!(vec![good.clone(); 51]), "maximum number of items is 50"),
        (with("org_id", json!("")), "Error at \"/1/org_id\": minimum string length is 1"),
        (
            with("org_id", json!("12345678901")),
            "Error at \"/1/org_id\": maximum string length is 10",
        ),
        (with("principal", json!("")), "Error at \"/1/principal\": minimum string length is 1"),
        (with("principal", Value::Null), "Error at \"/1/principal\": Value is not nullable"),
        (with("run_id", json!(1)), "Error at \"/1/run_id\": value must be a string"),
        (missing("run_id"), "Error at \"/1/run_id\": property \"run_id\" is missing"),
        (missing("org_id"), "Error at \"/1/org_id\": property \"org_id\" is missing"),
        (missing("principal"), "Error at \"/1/principal\": property \"principal\" is missing"),
        (
            with("run_id", json!("x")),
            "Error at \"/1/run_id\": string doesn't match the format \"uuid\" (string doesn't match \
             pattern \"^[a-f0-9]{8}-[a-f0-9]{4}-4[a-f0-9]{3}-[89aAbB][a-f0-9]{3}-[a-f0-9]{12}$\")",
        ),
        (
            with("principal", json!("\0")),
            "Error at \"/1/principal\": string must not contain the character U+0000",
        ),
    ] {
        let request = service.request(Method::POST, "/internal/v2/cancel").json(&bad);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{bad}");
        let schema = "request body has an error: doesn't match schema: ";
        let expected = json!({ "message": format!("{schema}{reason}") });
        assert_eq!(answer.json::<Value>().await.unwrap(), expected);
    }
    assert_eq!(rows::counts(&service.database()).unwrap(), before);
    assert_eq!(run(&service, id).await["status"], "running");
}
