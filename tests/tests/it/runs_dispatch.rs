//! Dispatch over the real router: every outcome of an item, whole batches that are refused, and
//! what lies in the database afterwards.

use std::sync::Arc;

use dispatcher_api::connector::mock::MockConnector;
use dispatcher_tests::{
    connector::ScriptedConnector,
    counting::Calls,
    rows,
    service::{InProcess, ORG},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

pub(crate) const FOREIGN: &str = "8e1f44ae-3f1b-4c1a-9a3e-0f7a5a0c6d11";
const NOT_CONNECTED: &str = "b5fbb740-5590-45a4-8240-89192dc49199";
const TIMES_OUT: &str = "b31955fb-3064-4f56-ae44-a1c488a28587";
const ONE_SATELLITE: &str = "9200e4a3-c97c-4021-9856-82fa4673e8d2";
const THAT_SATELLITE: &str = "9274c274-a258-5d00-91fe-dbe0f7849cef";
const INVENTORY_ID: &str = "c484f980-ab8d-401b-90e7-aa1d4ccf8c0e";

/// A dispatch item; more members replace its own.
pub(crate) fn item(recipient: impl ToString, more: &Value) -> Value {
    let mut item = json!({
        "recipient": recipient.to_string(), "org_id": ORG, "principal": "tester",
        "url": "https://example.com/site.yml", "name": "a test",
    });
    for (name, value) in more.as_object().unwrap() {
        item[name] = value.clone();
    }
    item
}

/// A recipient with a worker that was there a moment ago.
pub(crate) async fn present(service: &InProcess) -> Uuid {
    let worker = service.worker().await.unwrap();
    worker.wait(0).await.unwrap();
    worker.recipient
}

async fn post(service: &InProcess, body: &Value) -> (StatusCode, Value) {
    let request = service.request(Method::POST, "/internal/v2/dispatch").json(body);
    let answer = request.send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

fn satellite(sat_id: &str) -> Value {
    json!({
        "recipient_config": {"sat_id": sat_id, "sat_org_id": "5"},
        "hosts": [{"inventory_id": INVENTORY_ID}],
    })
}

#[tokio::test]
async fn every_item_has_its_own_outcome_in_the_order_of_the_request() {
    let variables = [("BLOCKLIST_ORG_IDS", "666,667")];
    let service = InProcess::start_connected(&variables, Arc::new(MockConnector)).await.unwrap();
    let own = present(&service).await;
    let absent = service.worker().await.unwrap().recipient;
    let (status, body) = post(
        &service,
        &json!([
            item(own, &json!({})),
            item(absent, &json!({})),
            item(FOREIGN, &json!({})),
            item(NOT_CONNECTED, &json!({})),
            item(TIMES_OUT, &json!({})),
            item(ONE_SATELLITE, &satellite(FOREIGN)),
            item(ONE_SATELLITE, &satellite(THAT_SATELLITE)),
            item(own, &json!({"org_id": "667"})),
            item(FOREIGN, &json!({"inputs": {"check": true}})),
            item(own, &json!({"inputs": {"check": true, "secrets": {"p": "hunter2"}}})),
            item(own, &json!({"org_id": "other"})),
        ]),
    )
    .await;
    assert_eq!(status, StatusCode::MULTI_STATUS);
    let codes: Vec<u64> =
        body.as_array().unwrap().iter().map(|item| item["code"].as_u64().unwrap()).collect();
    assert_eq!(codes, [201, 404, 201, 404, 500, 500, 201, 400, 400, 201, 201]);
    assert_eq!(body[1], json!({"code": 404, "message": "Receipient not found"}));
    assert_eq!(body[3], body[1]);
    assert_eq!(body[4], json!({"code": 500, "message": "Unexpected error during processing"}));
    assert_eq!(body[5], body[4]);
    assert_eq!(body[7], json!({"code": 400, "message": "Block listed org"}));
    assert!(body[8]["message"].as_str().unwrap().starts_with("/inputs needs a registered"));
    assert_eq!(body[0].as_object().unwrap().keys().collect::<Vec<_>>(), ["code", "id"]);

    let database = service.database();
    let counts = rows::counts(&database).unwrap();
    // Five were created, and the one nobody knows about stays.
    assert_eq!((counts["runs"], counts["run_work"]), (6, 2));
    let ambiguous = "SELECT count(*) FROM run_dispatch WHERE ambiguous = 1";
    assert_eq!(rows::value::<i64>(&database, ambiguous).unwrap(), 1);
    assert_eq!(counts["run_dispatch"], 1, "what was accepted or refused is settled");
    // One for each accepted run, and one for the Satellite's host.
    assert_eq!(counts["outbox"], 6);
    let secret = "SELECT count(*) FROM run_work WHERE instr(inputs, 'hunter2') > 0
                  OR instr(sealed_secrets, 'hunter2') > 0";
    assert_eq!(rows::value::<i64>(&database, secret).unwrap(), 0);
}

#[tokio::test]
async fn without_a_connector_only_own_recipients_are_found() {
    let service = InProcess::start().await.unwrap();
    let own = present(&service).await;
    let items = json!([
        item(own, &satellite(THAT_SATELLITE)),
        item(FOREIGN, &json!({})),
        item(own, &json!({"org_id": "other"})),
    ]);
    let (_, body) = post(&service, &items).await;
    let absent = json!({"code": 404, "message": "Receipient not found"});
    assert_eq!(body, json!([absent, absent, absent]));
    assert_eq!(rows::counts(&service.database()).unwrap()["runs"], 0);
}

#[tokio::test]
async fn a_broken_rule_refuses_the_whole_batch() {
    let service = InProcess::start_connected(&[], Arc::new(MockConnector)).await.unwrap();
    let own = present(&service).await;
    let before = rows::counts(&service.database()).unwrap();
    let config = json!({"sat_id": FOREIGN, "sat_org_id": "5"});
    for (bad, message) in [
        (
            json!({"recipient_config": {"sat_id": FOREIGN}}),
            "Both sat_id and sat_org need to be defined",
        ),
        (
            json!({"recipient_config": {"sat_org_id": "5"}}),
            "Both sat_id and sat_org need to be defined",
        ),
        (
            json!({"recipient_config": {"sat_org_id": "5"}, "hosts": [{}]}),
            "Both sat_id and sat_org need to be defined",
        ),
        (json!({"recipient_config": config, "hosts": [{}]}), "Inventory ID needs to be defined"),
        (json!({"recipient_config": config}), "Hosts need to be defined"),
        (json!({"recipient_config": config, "hosts": []}), "Hosts cannot be empty"),
        (
            json!({"recipient_config": config, "hosts": [{"ansible_host": "a"}]}),
            "Inventory ID needs to be defined",
        ),
    ] {
        let (status, body) = post(&service, &json!([item(own, &json!({})), item(own, &bad)])).await;
        assert_eq!((status, body), (StatusCode::BAD_REQUEST, json!({"message": message})));
    }
    assert_eq!(rows::counts(&service.database()).unwrap(), before);
}

#[tokio::test]
async fn runs_are_of_the_service_whose_key_it_is_and_of_no_satellite_unless_one_is_named() {
    let variables =
        [("PSK_AUTH_CONFIG_MANAGER", "managerkey"), ("PSK_AUTH_NOBODY", ""), ("DEMO_MODE", "True")];
    let service = InProcess::start_connected(&variables, Arc::new(MockConnector)).await.unwrap();
    let body = json!([
        item(FOREIGN, &json!({"recipient_config": {}, "hosts": [{"ansible_host": "a"}]})),
        item(FOREIGN, &json!({"recipient_config": {}, "hosts": []})),
        item(ONE_SATELLITE, &satellite(THAT_SATELLITE)),
        item(FOREIGN, &json!({"timeout": null, "Timeout": 604_801, "salad": {"a": []}})),
    ]);
    let request = service.as_key("managerkey", Method::POST, "/internal/v2/dispatch").json(&body);
    let answers: Vec<Value> = request.send().await.unwrap().json().await.unwrap();
    assert!(answers.iter().all(|answer| answer["code"] == 201), "{answers:?}");
    for (nth, answer) in answers.iter().enumerate() {
        let id = answer["id"].as_str().unwrap().parse().unwrap();
        let run = service.app.stores.runs.get(ORG, id).await.unwrap().unwrap().run;
        assert_eq!((run.service.as_str(), run.timeout), ("config_manager", 3600));
        assert_eq!(run.correlation_id, Uuid::nil(), "DEMO_MODE");
        assert_eq!(run.sat_id.is_some(), nth == 2);
    }
}

#[tokio::test]
async fn bad_bodies_change_nothing() {
    let service = InProcess::start().await.unwrap();
    let own = present(&service).await;
    let before = rows::counts(&service.database()).unwrap();
    let good = item(own, &json!({}));
    let with = |more: Value| json!([good, item(own, &more)]).to_string();
    for (body, reason) in [
        ("[{".to_owned(), "failed to decode request body"),
        ("{}".to_owned(), "value must be an array"),
        ("[]".to_owned(), "minimum number of items is 1"),
        (json!(vec![good.clone(); 51]).to_string(), "maximum number of items is 50"),
        (with(json!({"timeout": "60"})), "value must be an integer"),
        (with(json!({"timeout": 604_801})), "number must be at most 604800"),
        (with(json!({"org_id": "12345678901"})), "maximum string length is 10"),
        (with(json!({"url": "ftp://example.com"})), "format \\\"url\\\""),
        (with(json!({"labels": {"a": 1}})), "value must be a string"),
        (with(json!({"name": "a\0b"})), "U+0000"),
        (with(json!({"labels": {"a\0": "b"}})), "U+0000"),
        (with(json!({"hosts": [{"ansible_host": "a"}, {"ansible_host": "a"}]})), "named twice"),
        (with(json!({"hosts": [{}]})), "a host needs ansible_host or inventory_id"),
        (with(json!({"inputs": {"verbosity": 6}})), "number must be at most 5"),
        (with(json!({"inputs": {"colour": "red"}})), "unknown field"),
    ] {
        let request = service.request(Method::POST, "/internal/v2/dispatch").body(body);
        let request = request.header("content-type", "application/json");
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{reason}");
        let text = answer.text().await.unwrap();
        assert!(text.contains(reason), "{reason}: {text}");
    }
    assert_eq!(rows::counts(&service.database()).unwrap(), before);
}

#[tokio::test]
async fn a_body_is_limited_to_the_byte() {
    let service = InProcess::start().await.unwrap();
    let own = present(&service).await;
    let sized = |size: usize| {
        let mut body = json!([item(own, &json!({}))]).to_string();
        body.push_str(&" ".repeat(size - body.len()));
        service
            .request(Method::POST, "/internal/v2/dispatch")
            .header("content-type", "application/json")
            .body(body)
    };
    let answer = sized(512_001).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    let message = json!({"message": "Request Entity Too Large"});
    assert_eq!(answer.json::<Value>().await.unwrap(), message);
    assert_eq!(rows::counts(&service.database()).unwrap()["runs"], 0);
    let answer = sized(512_000).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::MULTI_STATUS);
    assert_eq!(rows::counts(&service.database()).unwrap()["runs"], 1);
}

#[tokio::test]
async fn hostile_labels_are_stored_and_found_as_text() {
    let service = InProcess::start().await.unwrap();
    let own = present(&service).await;
    let key = "'; DROP TABLE runs; --\"$.a%_\\";
    let hosts = json!([{"ansible_host": "b"}, {"inventory_id": INVENTORY_ID}]);
    let hostile = item(own, &json!({"labels": {key: "\u{1F600}\\\""}, "hosts": hosts}));
    let (_, body) = post(&service, &json!([item(own, &json!({})), hostile])).await;
    let id = body[1]["id"].as_str().unwrap();
    let name = format!("filter[labels][{key}]");
    let found: Value = service
        .request(Method::GET, "/api/playbook-dispatcher/v1/runs")
        .query(&[(name.as_str(), "\u{1F600}\\\""), ("fields[data]", "id,labels")])
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(found["data"], json!([{"id": id, "labels": {key: "\u{1F600}\\\""}}]));
    let names = "SELECT group_concat(host, ',') FROM (SELECT host FROM run_hosts ORDER BY host)";
    let names: String = rows::value(&service.database(), names).unwrap();
    assert_eq!(names, format!("b,{INVENTORY_ID}"));
}

#[tokio::test]
async fn a_batch_asks_the_database_once_and_sends_a_few_at_a_time() {
    let calls = Calls::default();
    let wrapping = calls.clone();
    let service = InProcess::start_with(&[], |stores| wrapping.wrap(stores)).await.unwrap();
    let own = present(&service).await;
    let before = calls.of("find");
    let (_, body) = post(&service, &json!(vec![item(own, &json!({})); 50])).await;
    assert!(body.as_array().unwrap().iter().all(|item| item["code"] == 201));
    assert_eq!(calls.of("find") - before, 1);

    let connector = ScriptedConnector::closed();
    let service = InProcess::start_connected(&[], connector.clone()).await.unwrap();
    let items = json!(vec![item(FOREIGN, &json!({})); 50]);
    let posting = post(&service, &items);
    let opening = async {
        while connector.sent().len() < 10 {
            tokio::task::yield_now().await;
        }
        connector.let_through(50);
    };
    let ((_, body), ()) = tokio::join!(posting, opening);
    assert!(body.as_array().unwrap().iter().all(|item| item["code"] == 201));
    let mut sent = connector.sent();
    sent.sort_unstable();
    sent.dedup();
    assert_eq!((sent.len(), connector.most_under_way()), (50, 10));
}

#[tokio::test]
async fn a_key_is_needed() {
    let service = InProcess::start().await.unwrap();
    let url = format!("{}/internal/v2/dispatch", service.url);
    let send = |key: Option<&str>, body: Value| {
        let request = reqwest::Client::new().post(&url).json(&body);
        key.map_or(request.try_clone().unwrap(), |key| request.header("authorization", key)).send()
    };
    let good = json!([item(FOREIGN, &json!({}))]);
    let malformed = send(None, json!([])).await.unwrap();
    assert_eq!(malformed.status(), StatusCode::BAD_REQUEST, "the body is looked at first");
    assert_eq!(send(None, good.clone()).await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(send(Some("PSK wrong"), good).await.unwrap().status(), StatusCode::FORBIDDEN);
}
