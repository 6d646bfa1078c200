//! `GET /internal/v2/run_hosts`: run hosts for services, on behalf of an identity of any kind.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use dispatcher_api::runs::model::{NewRun, NewRunHost};
use dispatcher_tests::service::{InProcess, KEY, ORG, ORG_ADMIN_KEY, new_run};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use uuid::Uuid;

const PATH: &str = "/internal/v2/run_hosts";

async fn start(more: &[(&str, &str)]) -> InProcess {
    let mut variables = vec![("IDENTITY_HEADER_FROM", "loopback")];
    variables.extend_from_slice(more);
    InProcess::start_with(&variables, |stores| stores).await.unwrap()
}

fn identity(kind: &str, org_id: &str) -> String {
    let identity = json!({ "identity": { "type": kind, "org_id": org_id } });
    BASE64_STANDARD.encode(identity.to_string())
}

fn get(service: &InProcess, query: &str, org_id: &str) -> RequestBuilder {
    let request = service.as_key(KEY, Method::GET, &format!("{PATH}{query}"));
    request.header("x-rh-identity", identity("System", org_id))
}

async fn answer(request: RequestBuilder) -> (u16, String) {
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// Runs of two services, three hosts each.
async fn six_hosts(service: &InProcess) {
    for name in ["tasks", "remediations"] {
        let hosts = (0..3).map(|number| NewRunHost {
            id: Uuid::new_v4(),
            host: format!("{name}-{number}"),
            inventory_id: None,
            subscription_manager_id: None,
        });
        let run =
            NewRun { service: name.to_owned(), hosts: hosts.collect(), ..new_run(Uuid::new_v4()) };
        service.create(run).await.unwrap();
    }
}

#[tokio::test]
async fn the_key_is_checked_first_then_the_identity_then_the_query() {
    let service = start(&[("BLOCKLIST_ORG_IDS", "blocked")]).await;
    let bad = format!("{}{PATH}?limit=0", service.url);
    let said = |text: &str| text.to_owned();
    let nobody = answer(Client::new().get(&bad)).await;
    assert_eq!(nobody, (401, said("{\"message\":\"Unauthorized\"}\n")));
    let wrong = Client::new().get(&bad).header("authorization", "PSK wrong");
    assert_eq!(answer(wrong).await, (403, said("{\"message\":\"Forbidden\"}\n")));
    let malformed = Client::new().get(&bad).header("authorization", "PSK");
    let text = "{\"message\":\"Unsupported authentication key format\"}\n";
    assert_eq!(answer(malformed).await, (401, said(text)));
    let without = service.as_key(KEY, Method::GET, &format!("{PATH}?limit=0"));
    let text = "Bad Request: missing x-rh-identity header\n";
    assert_eq!(answer(without).await, (400, said(text)));
    let text = "{\"message\":\"parameter \\\"limit\\\" in query has an error: \
                number must be at least 1\"}\n";
    assert_eq!(answer(get(&service, "?limit=0", "blocked")).await, (400, said(text)));
    assert_eq!(answer(get(&service, "", "blocked")).await, (403, String::new()));
    assert_eq!(answer(get(&service, "", ORG)).await.0, 200);
}

#[tokio::test]
async fn any_kind_of_identity_sees_every_service_of_its_organisation() {
    // RBAC that nobody can reach: it is not asked here.
    let service =
        start(&[("RBAC_IMPL", "impl"), ("RBAC_HOST", "127.0.0.1"), ("RBAC_PORT", "1")]).await;
    six_hosts(&service).await;
    for kind in ["User", "System", "ServiceAccount", "Cert"] {
        let request = service.as_key(KEY, Method::GET, PATH);
        let (status, body) = answer(request.header("x-rh-identity", identity(kind, ORG))).await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &body["meta"]["total"]), (200, &json!(6)), "{kind}");
    }
    let (_, body) = answer(get(&service, "", "org-2")).await;
    assert!(body.starts_with("{\"data\":[],"), "{body}");
    // Kinds without an organisation, and keys of another one.
    let request = service.as_key(KEY, Method::GET, PATH);
    let associate = answer(request.header("x-rh-identity", identity("Associate", ""))).await;
    assert_eq!(associate, (403, String::new()));
    let request = service.as_key(ORG_ADMIN_KEY, Method::GET, PATH);
    let (status, body) = answer(request.header("x-rh-identity", identity("User", "org-2"))).await;
    assert_eq!(status, 403);
    assert!(body.contains("\"org_forbidden\""), "{body}");
}

#[tokio::test]
async fn links_can_be_followed_and_lead_through_everything() {
    let service = start(&[]).await;
    six_hosts(&service).await;
    let mut path = Some(format!("{PATH}?limit=2&offset=0&filter[run][service]=tasks&x=1"));
    let (mut seen, mut pages) = (Vec::new(), 0);
    while let Some(next) = path {
        let query = next.strip_prefix(PATH).expect("links stay on this route");
        assert_eq!((query.matches("limit=").count(), query.matches("offset=").count()), (1, 1));
        let (status, body) = answer(get(&service, query, ORG)).await;
        assert_eq!(status, 200, "{query}: {body}");
        let body: Value = serde_json::from_str(&body).unwrap();
        let host = |host: &Value| host["host"].as_str().unwrap().to_owned();
        seen.extend(body["data"].as_array().unwrap().iter().map(host));
        let links = &body["links"];
        let base = format!("{PATH}?filter%5Brun%5D%5Bservice%5D=tasks&limit=2&offset=");
        assert_eq!(links["first"], format!("{base}0&x=1"));
        assert_eq!(links["last"], format!("{base}2&x=1"));
        path = links["next"].as_str().map(str::to_owned);
        pages += 1;
    }
    seen.sort_unstable();
    assert_eq!((seen, pages), (["tasks-0", "tasks-1", "tasks-2"].map(str::to_owned).to_vec(), 2));
}
