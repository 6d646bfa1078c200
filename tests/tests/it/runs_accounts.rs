//! Dispatch by account: the organisation of each account comes from the tenant translator, which can
//! be slow, broken, garbled and absent; its mocks; and what the older form of a run lacks.

use std::time::Duration;

use dispatcher_tests::{
    rows,
    service::{InProcess, ORG},
    stub::{Reply, Seen, Stub},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::runs_dispatch::{FOREIGN, present};

const DISPATCH: &str = "/internal/dispatch";

fn item(account: &str, more: &Value) -> Value {
    let mut item = json!({
        "recipient": FOREIGN, "account": account, "url": "https://example.com/site.yml",
    });
    for (name, value) in more.as_object().unwrap() {
        item[name] = value.clone();
    }
    item
}

async fn post(service: &InProcess, body: &Value) -> (StatusCode, String) {
    let request = service.request(Method::POST, DISPATCH).json(body);
    let answer = request.send().await.unwrap();
    (answer.status(), answer.text().await.unwrap())
}

async fn items(service: &InProcess, body: &Value) -> Vec<Value> {
    let (status, text) = post(service, body).await;
    assert_eq!(status, StatusCode::MULTI_STATUS, "{text}");
    serde_json::from_str(&text).unwrap()
}

fn unknown() -> Value {
    json!({ "code": 404, "message": "Tenant not found" })
}

fn failed() -> Value {
    json!({ "code": 500, "message": "Unexpected error during processing" })
}

/// A service, foreign hosts mocked, with this translator.
async fn with(more: &[(&str, &str)]) -> InProcess {
    let variables = [&[("CLOUD_CONNECTOR_IMPL", "mock"), ("BLOCKLIST_ORG_IDS", "666")], more];
    InProcess::start_with(&variables.concat(), |stores| stores).await.unwrap()
}

async fn translated(stub: &Stub, more: &[(&str, &str)]) -> InProcess {
    let port = stub.port().to_string();
    let own = [
        ("TENANT_TRANSLATOR_IMPL", "impl"),
        ("TENANT_TRANSLATOR_HOST", "127.0.0.1"),
        ("TENANT_TRANSLATOR_PORT", port.as_str()),
    ];
    with(&[&own, more].concat()).await
}

/// Knows a few accounts.
fn known(seen: &Seen) -> Reply {
    let asked: Vec<String> = serde_json::from_str(&seen.body).unwrap();
    let org = |account: &String| match account.as_str() {
        "0000001" => Some(ORG),
        "0000002" => Some("org-2"),
        "0000666" => Some("666"),
        _ => None,
    };
    let found: serde_json::Map<_, _> =
        asked.iter().filter_map(|one| Some((one.clone(), json!(org(one)?)))).collect();
    Reply::json(200, &Value::Object(found))
}

#[tokio::test]
async fn without_a_translator_no_tenant_is_found() {
    let service = with(&[]).await;
    assert_eq!(
        post(&service, &json!([item("901578", &json!({}))])).await,
        (
            StatusCode::MULTI_STATUS,
            "[{\"code\":404,\"message\":\"Tenant not found\"}]\n".to_owned()
        )
    );
    assert_eq!(rows::counts(&service.database()).unwrap()["runs"], 0);
}

#[tokio::test]
async fn mocks_know_what_the_contract_says() {
    let service = with(&[("TENANT_TRANSLATOR_IMPL", "dynamic-mock")]).await;
    let accounts = ["1234", "abcd", "901578"];
    let asked = json!(accounts.map(|account| item(account, &json!({}))));
    let answers = items(&service, &asked).await;
    assert_eq!(answers[..2], [unknown(), unknown()]);
    assert_eq!(answers[2]["code"], 201);
    let org: String = rows::value(&service.database(), "SELECT org_id FROM runs").unwrap();
    assert_eq!(org, "901578-test");

    let service = with(&[("TENANT_TRANSLATOR_IMPL", "mock")]).await;
    let known = [
        ("901578", "5318290"),
        ("6377882", "12900172"),
        ("7135271", "14656001"),
        ("6089719", "11789772"),
        ("0369233", "3340851"),
        ("010101", "10001"),
    ];
    for (account, expected) in known {
        let answers = items(&service, &json!([item(account, &json!({}))])).await;
        let id = answers[0]["id"].as_str().unwrap().parse().unwrap();
        assert!(service.app.stores.runs.get(expected, id).await.unwrap().is_some(), "{account}");
    }
    assert_eq!(items(&service, &json!([item("1", &json!({}))])).await, [unknown()]);
}

#[tokio::test]
async fn each_account_is_asked_for_once_and_each_item_comes_out_for_itself() {
    let stub = Stub::start(known).await.unwrap();
    let service = translated(&stub, &[]).await;
    let own = present(&service).await;
    let asked = json!([
        item("0000001", &json!({ "recipient": own, "labels": { "foo": "1234" } })),
        item("0000003", &json!({})),
        item("0000666", &json!({})),
        item("0000002", &json!({ "hosts": [{ "ansible_host": "a" }], "timeout": 60 })),
        item("0000002", &json!({ "recipient": own })),
        item("0000001", &json!({ "recipient": "b5fbb740-5590-45a4-8240-89192dc49199" })),
    ]);
    let answers = items(&service, &asked).await;
    let codes: Vec<_> = answers.iter().map(|answer| answer["code"].as_u64().unwrap()).collect();
    // An organisation that does not own the recipient reaches another one, by Cloud Connector.
    assert_eq!(codes, [201, 404, 400, 201, 201, 404]);
    assert_eq!(answers[1], unknown());
    assert_eq!(answers[2], json!({ "code": 400, "message": "Block listed org" }));
    assert_eq!(answers[5], json!({ "code": 404, "message": "Receipient not found" }));

    let mut seen = stub.take();
    seen.sort_by(|a, b| a.body.cmp(&b.body));
    let bodies: Vec<&str> = seen.iter().map(|seen| seen.body.as_str()).collect();
    assert_eq!(bodies, ["[\"0000001\"]", "[\"0000002\"]", "[\"0000003\"]", "[\"0000666\"]"]);
    for seen in &seen {
        assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/internal/orgIds"));
        assert_eq!(seen.header("content-type"), "application/json");
        assert_eq!(seen.header("accept"), "application/json");
    }
    let counts = rows::counts(&service.database()).unwrap();
    assert_eq!((counts["runs"], counts["run_work"], counts["run_hosts"]), (3, 1, 1));
}

#[tokio::test]
async fn a_run_of_this_form_has_neither_name_nor_principal() {
    let stub = Stub::start(known).await.unwrap();
    let console = [("WEB_CONSOLE_URL_DEFAULT", "https://console.example")];
    let service = translated(&stub, &console).await;
    let satellite = json!({
        "recipient_config": { "sat_id": FOREIGN, "sat_org_id": "5" }, "name": "n",
        "principal": "p", "web_console_url": "https://x.example",
    });
    let answers = items(&service, &json!([item("0000001", &satellite)])).await;
    let id: Uuid = answers[0]["id"].as_str().unwrap().parse().unwrap();
    let run = service.app.stores.runs.get(ORG, id).await.unwrap().unwrap().run;
    assert_eq!((run.name, run.principal, run.sat_id, run.sat_org_id), (None, None, None, None));
    assert_eq!(run.web_console_url.as_deref(), Some("https://console.example"));
    assert_eq!((run.timeout, run.service.as_str()), (3600, "test"));

    let path = "/api/playbook-dispatcher/v1/runs?fields[data]=id,name,web_console_url";
    let list: Value =
        service.request(Method::GET, path).send().await.unwrap().json().await.unwrap();
    let expected = json!({ "id": id, "web_console_url": "https://console.example" });
    assert_eq!(list["data"], json!([expected]));
}

#[tokio::test]
async fn a_translator_that_misbehaves_fails_its_items_and_nothing_else() {
    let stub = Stub::start(known).await.unwrap();
    let service = translated(&stub, &[("TENANT_TRANSLATOR_TIMEOUT", "0.5")]).await;
    let asked = json!([item("0000001", &json!({}))]);
    for reply in [
        Reply::text(404, "no"),
        Reply::text(500, "broken"),
        Reply::json(201, &json!({ "0000001": "1" })),
        Reply::text(200, "{\"0000001\":\"1\"}"),
        Reply::json(200, &json!(["1"])),
        Reply::json(200, &json!({ "0000001": 1 })),
        Reply::json(200, &json!({ "0000001": "" })),
        Reply::json(200, &json!({ "0000001": "a\nb" })),
        Reply::Answer(200, "application/json", "{\"0000001\":".to_owned()),
        Reply::Half(200),
        Reply::Babble,
        Reply::Cut,
        Reply::Silence,
        Reply::Late(Duration::from_secs(60), 200, "application/json", "{}".to_owned()),
    ] {
        let what = format!("{reply:?}");
        stub.replies(move |_| reply.clone());
        assert_eq!(items(&service, &asked).await, [failed()], "{what}");
    }
    for nobody in [json!({}), json!({ "0000001": null }), json!({ "0000002": "2" })] {
        stub.replies(move |_| Reply::json(200, &nobody));
        assert_eq!(items(&service, &asked).await, [unknown()]);
    }
    stub.replies(|seen| if seen.body.contains("0000002") { Reply::Cut } else { known(seen) });
    let asked = json!([item("0000002", &json!({})), item("0000001", &json!({}))]);
    let answers = items(&service, &asked).await;
    assert_eq!((&answers[0], &answers[1]["code"]), (&failed(), &json!(201)));
    stub.leave().await;
    assert_eq!(items(&service, &asked).await, [failed(), failed()]);
}

#[tokio::test]
async fn bodies_are_checked_with_the_contracts_words_before_keys() {
    let service = with(&[("TENANT_TRANSLATOR_IMPL", "dynamic-mock")]).await;
    let schema = "request body has an error: doesn't match schema: ";
    let anonymous = reqwest::Client::new().post(format!("{}{DISPATCH}", service.url));
    let answer = anonymous.json(&json!([])).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    let text = format!("{{\"message\":\"{schema}minimum number of items is 1\"}}\n");
    assert_eq!(answer.text().await.unwrap(), text);
    let without = |name: &str| {
        let mut item = item("1", &json!({}));
        item.as_object_mut().unwrap().shift_remove(name);
        json!([item])
    };
    let with = |more: Value| json!([item("1", &more)]);
    for (body, reason) in [
        (json!(vec![item("1", &json!({})); 51]), "maximum number of items is 50"),
        (without("account"), "Error at \"/0/account\": property \"account\" is missing"),
        (without("recipient"), "Error at \"/0/recipient\": property \"recipient\" is missing"),
        (without("url"), "Error at \"/0/url\": property \"url\" is missing"),
        (with(json!({ "account": "" })), "Error at \"/0/account\": minimum string length is 1"),
        (
            with(json!({ "account": "12345678901" })),
            "Error at \"/0/account\": maximum string length is 10",
        ),
        (with(json!({ "timeout": 604_801 })), "number must be at most 604800"),
        (with(json!({ "labels": null })), "Error at \"/0/labels\": Value is not nullable"),
    ] {
        let (status, text) = post(&service, &body).await;
        let message = serde_json::from_str::<Value>(&text).unwrap();
        let message = message["message"].as_str().unwrap();
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(message.starts_with(schema) && message.ends_with(reason), "{message}");
    }
    let anonymous = reqwest::Client::new().post(format!("{}{DISPATCH}", service.url));
    let answer = anonymous.json(&json!([item("1", &json!({}))])).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_repetition_gets_the_same_bytes() {
    let service = with(&[("TENANT_TRANSLATOR_IMPL", "dynamic-mock")]).await;
    let asked = json!([item("901578", &json!({})), item("1234", &json!({}))]);
    let send = async || {
        let request = service.request(Method::POST, DISPATCH).header("idempotency-key", "k");
        let answer = request.json(&asked).send().await.unwrap();
        let replayed = answer.headers().contains_key("idempotency-replayed");
        (answer.status(), replayed, answer.text().await.unwrap())
    };
    let (status, replayed, first) = send().await;
    assert_eq!((status, replayed), (StatusCode::MULTI_STATUS, false));
    assert_eq!(send().await, (StatusCode::MULTI_STATUS, true, first));
    assert_eq!(rows::counts(&service.database()).unwrap()["runs"], 1);
}
