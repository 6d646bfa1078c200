//! Recipients over the real router: their status and their list.

use std::sync::Arc;

use dispatcher_api::connector::{SendError, mock::MockConnector};
use dispatcher_tests::{
    connector::ScriptedConnector,
    process::BASE,
    service::{InProcess, KEY, ORG},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::runs_dispatch::{FOREIGN, item, present};

async fn status(service: &InProcess, asked: &[(Uuid, &str)]) -> reqwest::Response {
    let asked: Vec<Value> =
        asked.iter().map(|(id, org)| json!({"recipient": id, "org_id": org})).collect();
    let request = service.request(Method::POST, "/internal/v2/recipients/status").json(&asked);
    request.send().await.unwrap()
}

async fn connected(service: &InProcess, asked: &[(Uuid, &str)]) -> Vec<bool> {
    let answer = status(service, asked).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let body: Vec<Value> = answer.json().await.unwrap();
    for (item, (id, org)) in body.iter().zip(asked) {
        assert_eq!((&item["recipient"], &item["org_id"]), (&json!(id), &json!(org)));
        assert_eq!(
            item.as_object().unwrap().keys().collect::<Vec<_>>(),
            ["connected", "org_id", "recipient"]
        );
    }
    body.iter().map(|item| item["connected"].as_bool().unwrap()).collect()
}

#[tokio::test]
async fn presence_decides_for_own_recipients_and_the_connector_for_others() {
    let disconnected: Uuid = "411cb203-f8c9-480e-ba20-1efbc74e3a33".parse().unwrap();
    let foreign: Uuid = FOREIGN.parse().unwrap();
    let service = InProcess::start_connected(&[], Arc::new(MockConnector)).await.unwrap();
    let own = present(&service).await;
    let absent = service.worker().await.unwrap().recipient;
    let asked = [
        (own, ORG),
        (absent, ORG),
        (foreign, ORG),
        (disconnected, "5318290"),
        (disconnected, ORG),
        (own, "other"),
        (own, ORG),
    ];
    assert_eq!(connected(&service, &asked).await, [true, false, true, false, true, true, true]);

    let service = InProcess::start().await.unwrap();
    let own = present(&service).await;
    let asked = [(own, ORG), (foreign, ORG), (own, "other")];
    assert_eq!(connected(&service, &asked).await, [true, false, false]);
    // There is no most, only the limit of the body.
    let many = vec![(own, ORG); 500];
    assert_eq!(connected(&service, &many).await.len(), 500);
}

#[tokio::test]
async fn one_failed_question_fails_all_without_a_body() {
    let connector = ScriptedConnector::open();
    let (one, other) = (Uuid::new_v4(), Uuid::new_v4());
    connector.fail(other, SendError::Ambiguous("timeout".to_owned()));
    let service = InProcess::start_connected(&[], connector).await.unwrap();
    assert_eq!(connected(&service, &[(one, ORG)]).await, [true]);
    let answer = status(&service, &[(one, ORG), (other, ORG)]).await;
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(answer.text().await.unwrap(), "");
}

#[tokio::test]
async fn malformed_questions_get_the_contracts_reasons() {
    let service = InProcess::start().await.unwrap();
    let schema = "request body has an error: doesn't match schema: ";
    let uuid = "string doesn't match the format \"uuid\" (string doesn't match pattern \
                \"^[a-f0-9]{8}-[a-f0-9]{4}-4[a-f0-9]{3}-[89aAbB][a-f0-9]{3}-[a-f0-9]{12}$\")";
    for (asked, reason) in [
        (json!([]), "minimum number of items is 1".to_owned()),
        (json!({}), "value must be an array".to_owned()),
        (
            json!([{"recipient": FOREIGN}]),
            "Error at \"/0/org_id\": property \"org_id\" is missing".to_owned(),
        ),
        (
            json!([{"org_id": "1"}]),
            "Error at \"/0/recipient\": property \"recipient\" is missing".to_owned(),
        ),
        (
            json!([{"recipient": FOREIGN, "org_id": "12345678901"}]),
            "Error at \"/0/org_id\": maximum string length is 10".to_owned(),
        ),
        (
            json!([{"recipient": FOREIGN.to_uppercase(), "org_id": "1"}]),
            format!("Error at \"/0/recipient\": {uuid}"),
        ),
    ] {
        let request = service.request(Method::POST, "/internal/v2/recipients/status").json(&asked);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        let expected = json!({ "message": format!("{schema}{reason}") });
        assert_eq!(answer.json::<Value>().await.unwrap(), expected);
    }
}

#[tokio::test]
async fn the_list_shows_who_is_there_and_how_busy() {
    let service = InProcess::start().await.unwrap();
    let own = present(&service).await;
    let absent = service.worker().await.unwrap().recipient;
    let items = json!([item(own, &json!({})), item(own, &json!({}))]);
    let dispatch = service.request(Method::POST, "/internal/v2/dispatch").json(&items);
    assert_eq!(dispatch.send().await.unwrap().status(), StatusCode::MULTI_STATUS);
    let list = service.request(Method::GET, &format!("{BASE}/recipients?limit=10"));
    let body: Value = list.send().await.unwrap().json().await.unwrap();
    assert_eq!(body["meta"], json!({"count": 2, "total": 2}));
    assert_eq!(body["links"]["first"], format!("{BASE}/recipients?limit=10&offset=0"));
    let of = |id: Uuid| {
        let rows = body["data"].as_array().unwrap();
        rows.iter().find(|row| row["id"] == json!(id)).unwrap().clone()
    };
    let (own, absent) = (of(own), of(absent));
    assert_eq!((&own["connected"], &own["active_runs"]), (&json!(true), &json!(2)));
    assert!(own["last_seen"].as_str().unwrap().ends_with('Z'));
    assert_eq!((&absent["connected"], &absent["active_runs"]), (&json!(false), &json!(0)));
    assert!(absent.get("last_seen").is_none());

    let others = reqwest::Client::new()
        .get(format!("{}{BASE}/recipients", service.url))
        .header("authorization", format!("PSK {KEY}"))
        .header("x-dispatcher-org", "other");
    let others: Value = others.send().await.unwrap().json().await.unwrap();
    assert_eq!(others["data"], json!([]));
    let bad = service.request(Method::GET, &format!("{BASE}/recipients?limit=0"));
    let answer = bad.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    assert_eq!(answer.json::<Value>().await.unwrap()["error_code"], "invalid_page");
}
