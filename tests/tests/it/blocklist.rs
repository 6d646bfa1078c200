//! Blocked organisations: their dispatches are refused, their uploads are dropped without a word, and
//! entries of the list are trimmed.

use dispatcher_api::uploads::token::{Bearer, issue};
use dispatcher_tests::{
    foreign::{accepted, lines, send, transcript},
    process::BASE,
    service::{InProcess, KEY, ORG, new_run},
};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

const OTHER: &str = "org-2";

async fn start() -> InProcess {
    let variables = [
        ("BLOCKLIST_ORG_IDS", "org-9, org-1 ,"),
        ("CLOUD_CONNECTOR_IMPL", "mock"),
        ("ARTIFACT_MAX_SIZE", "2000"),
    ];
    InProcess::start_with(&variables, |stores| stores).await.unwrap()
}

fn return_url(service: &InProcess, org_id: &str) -> String {
    let bearer = Bearer { run_id: Uuid::new_v4(), org_id: org_id.to_owned() };
    let token =
        issue(&service.app.keyring, &bearer, OffsetDateTime::now_utc() + Duration::hours(1));
    format!("{}/api/ingress/v1/upload?token={token}", service.url)
}

async fn uploads_of(service: &InProcess, org_id: &str) -> Value {
    let request = Client::new().get(format!("{}{BASE}/uploads", service.url));
    let request = request.header("authorization", format!("PSK {KEY}"));
    let answer = request.header("x-dispatcher-org", org_id).send().await.unwrap();
    answer.json::<Value>().await.unwrap()["meta"]["total"].clone()
}

#[tokio::test]
async fn uploads_are_answered_as_for_everybody_and_dropped() {
    let service = start().await;
    let archive = lines(&transcript(Uuid::new_v4(), &["a"]));
    assert!(archive.len() < 2000, "{}", archive.len());
    for (org_id, kept) in [(ORG, 0), (OTHER, 1)] {
        let url = return_url(&service, org_id);
        accepted(&url, &archive).await.unwrap();
        assert_eq!(uploads_of(&service, org_id).await, kept, "{org_id}");
        assert_eq!(service.objects("uploads").unwrap(), kept);
        // What nobody may send, they may not send either.
        let answer = send(&url, b"").await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{org_id}");
        let answer = send(&url, &[b' '; 2001]).await.unwrap();
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE, "{org_id}");
    }
}

#[tokio::test]
async fn entries_are_trimmed_and_an_empty_one_blocks_nobody() {
    let service = start().await;
    let items: Vec<Value> = [ORG, OTHER]
        .iter()
        .map(|org_id| {
            json!({ "recipient": Uuid::new_v4(), "org_id": org_id, "principal": "p", "name": "n",
                    "url": "https://example.com/site.yml" })
        })
        .collect();
    let request = service.request(Method::POST, "/internal/v2/dispatch").json(&items);
    let body: Value = request.send().await.unwrap().json().await.unwrap();
    assert_eq!(body[0], json!({ "code": 400, "message": "Block listed org" }));
    assert_eq!(body[1]["code"], 201);
    // What there is, an organisation goes on seeing.
    service.create(new_run(Uuid::new_v4())).await.unwrap();
    for list in ["runs", "run_hosts"] {
        let answer = service.request(Method::GET, &format!("{BASE}/{list}")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{list}");
    }
}
