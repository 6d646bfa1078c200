//! RBAC: who may look at runs whom a gateway vouches for, and at which; and what happens when it is
//! slow, broken, garbled or absent.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use dispatcher_api::runs::model::{NewRun, NewRunHost};
use dispatcher_tests::{
    ports,
    process::{BASE, PATIENCE},
    service::{InProcess, ORG, new_run},
    stub::{Reply, Stub},
};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use uuid::Uuid;

const ACCESS: &str = "/api/rbac/v1/access/?application=playbook-dispatcher";
const UNAVAILABLE: &str = "{\"message\":\"error getting permissions from RBAC\"}\n";
const FORBIDDEN: &str = "{\"message\":\"Forbidden\"}\n";

fn identity_of(user: &str) -> String {
    let identity = json!({ "type": "User", "org_id": ORG, "user": { "user_id": user } });
    BASE64_STANDARD.encode(json!({ "identity": identity }).to_string())
}

fn get(service: &InProcess, path: &str) -> RequestBuilder {
    let request = Client::new().get(format!("{}{BASE}/{path}", service.url));
    request.header("x-rh-identity", identity_of("ada"))
}

async fn answer(request: RequestBuilder) -> (u16, String) {
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn start(port: u16, more: &[(&str, &str)]) -> InProcess {
    let port = port.to_string();
    let mut variables = vec![
        ("IDENTITY_HEADER_FROM", "loopback"),
        ("RBAC_IMPL", "impl"),
        ("RBAC_HOST", "127.0.0.1"),
        ("RBAC_PORT", port.as_str()),
    ];
    variables.extend_from_slice(more);
    InProcess::start_with(&variables, |stores| stores).await.unwrap()
}

/// A run of a service with one host, called like the service.
async fn run_of(service: &InProcess, name: &str) -> Uuid {
    let host = NewRunHost {
        id: Uuid::new_v4(),
        host: name.to_owned(),
        inventory_id: None,
        subscription_manager_id: None,
    };
    let run = NewRun { service: name.to_owned(), hosts: vec![host], ..new_run(Uuid::new_v4()) };
    service.create(run).await.unwrap()
}

/// From now on it answers so.
fn says(rbac: &Stub, reply: Reply) {
    rbac.replies(move |_| reply.clone());
}

fn page(data: Value) -> Reply {
    let links = json!({ "first": ACCESS, "next": null, "previous": null, "last": ACCESS });
    let count = data.as_array().unwrap().len();
    let meta = json!({ "count": count, "limit": 1000, "offset": 0 });
    Reply::json(200, &json!({ "meta": meta, "links": links, "data": data }))
}

fn permission(name: &str, services: &Value) -> Value {
    let filter = json!({ "key": "service", "operation": "equal", "value": services });
    let limits =
        if services.is_null() { json!([]) } else { json!([{ "attributeFilter": filter }]) };
    json!({ "permission": name, "resourceDefinitions": limits })
}

fn reads(services: &Value) -> Reply {
    page(json!([permission("playbook-dispatcher:run:read", services)]))
}

async fn services_seen(service: &InProcess) -> Vec<String> {
    let (status, body) = answer(get(service, "runs?fields[data]=service")).await;
    assert_eq!(status, 200, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    let name = |run: &Value| run["service"].as_str().unwrap().to_owned();
    let mut seen: Vec<_> = body["data"].as_array().unwrap().iter().map(name).collect();
    seen.sort_unstable();
    seen
}

#[tokio::test]
async fn permissions_open_the_door_and_limit_services() {
    let rbac = Stub::start(|_| Reply::text(404, "")).await.unwrap();
    let service = start(rbac.port(), &[("RBAC_CACHE_TTL", "0")]).await;
    for name in ["remediations", "config_manager", "tasks"] {
        run_of(&service, name).await;
    }
    let all = ["config_manager", "remediations", "tasks"];
    let read = "playbook-dispatcher:run:read";
    let write = "playbook-dispatcher:run:write";
    for (said, expected) in [
        (reads(&json!(null)), all.as_slice()),
        (page(json!([permission("playbook-dispatcher:*:*", &json!(null))])), all.as_slice()),
        (reads(&json!("tasks")), &["tasks"]),
        (reads(&json!(["tasks", null, "config_manager"])), &["config_manager", "tasks"]),
        (reads(&json!([null])), all.as_slice()),
        (reads(&json!("nobody")), &[]),
        // An unrestricted permission beside a restricted one does not widen.
        (
            page(json!([permission(read, &json!(null)), permission(read, &json!("tasks"))])),
            &["tasks"],
        ),
        // Those that do not open the door limit, too.
        (
            page(json!([permission(read, &json!(null)), permission(write, &json!("tasks"))])),
            &["tasks"],
        ),
    ] {
        says(&rbac, said.clone());
        assert_eq!(services_seen(&service).await, expected, "{said:?}");
    }
    for said in [
        page(json!([])),
        page(json!([permission(write, &json!("tasks"))])),
        page(json!([permission("inventory:hosts:read", &json!(null))])),
    ] {
        says(&rbac, said);
        for list in ["runs", "run_hosts"] {
            assert_eq!(answer(get(&service, list)).await, (403, FORBIDDEN.to_owned()));
        }
    }
}

#[tokio::test]
async fn rbac_is_asked_with_the_identity_and_the_ids_of_the_request() {
    let rbac = Stub::start(|_| Reply::text(404, "")).await.unwrap();
    says(&rbac, reads(&json!(null)));
    let service = start(rbac.port(), &[]).await;
    let request = get(&service, "runs").header("x-rh-insights-request-id", "request-7");
    let answered = request.send().await.unwrap();
    assert_eq!(answered.status(), 200);
    let asked = rbac.seen();
    assert_eq!((asked.len(), asked[0].method.as_str(), asked[0].path.as_str()), (1, "GET", ACCESS));
    let headers = &asked[0].headers;
    assert_eq!(headers["x-rh-identity"], identity_of("ada"));
    assert_eq!(headers["x-rh-insights-request-id"], "request-7");
    let internal = "x-rh-playbook-dispatcher-internal-request-id";
    assert_eq!(headers[internal], answered.headers()[internal].to_str().unwrap());
}

#[tokio::test]
async fn whatever_goes_wrong_with_rbac_is_a_503_and_not_remembered() {
    let rbac = Stub::start(|_| Reply::text(404, "")).await.unwrap();
    let more = [("RBAC_TIMEOUT", "0.5"), ("OUTSIDE_MAX_ANSWER", "1KB")];
    let service = start(rbac.port(), &more).await;
    let next = json!({ "links": { "next": "/more" }, "data": [] });
    let unclear = json!({ "not": "a name" });
    for said in [
        Reply::json(500, &json!({})),
        Reply::json(403, &json!({})),
        Reply::json(302, &json!({})),
        Reply::json(200, &next),
        Reply::json(200, &json!({ "links": { "next": null } })),
        Reply::json(200, &json!([])),
        Reply::Answer(200, "text/html", "{\"data\":[]}".to_owned()),
        Reply::Answer(200, "application/json", "{\"data\":[".to_owned()),
        Reply::Answer(200, "application/json", format!("{{\"data\":[]{}}}", " ".repeat(1000))),
        Reply::Cut,
        Reply::Half(200),
        Reply::Babble,
        Reply::Silence,
        reads(&unclear),
    ] {
        says(&rbac, said.clone());
        let got = answer(get(&service, "runs")).await;
        assert_eq!(got, (503, UNAVAILABLE.to_owned()), "{said:?}");
    }
    says(&rbac, reads(&json!(null)));
    assert_eq!(answer(get(&service, "runs")).await.0, 200, "a failure was remembered");

    let absent = start(ports::free().unwrap(), &[]).await;
    for list in ["runs", "run_hosts"] {
        assert_eq!(answer(get(&absent, list)).await, (503, UNAVAILABLE.to_owned()));
    }
}

#[tokio::test]
async fn requests_are_checked_before_rbac_is_asked_and_read_after() {
    let rbac = Stub::start(|_| Reply::text(404, "")).await.unwrap();
    says(&rbac, page(json!([])));
    let service = start(rbac.port(), &[]).await;
    let nobody = Client::new().get(format!("{}{BASE}/runs?limit=0", service.url));
    let missing = "Bad Request: missing x-rh-identity header\n".to_owned();
    assert_eq!(answer(nobody).await, (400, missing));
    for bad in ["runs?limit=0", "runs?sort_by=x", "run_hosts?filter[status]=x", "nowhere"] {
        let (status, body) = answer(get(&service, bad)).await;
        assert!([400, 404].contains(&status), "{bad}: {status} {body}");
    }
    assert!(rbac.seen().is_empty(), "RBAC was asked about a request that is not in order");
    for later in [
        "runs?filter[recipient]=x",
        "runs?fields[data]=salad",
        "run_hosts?fields[data]=x",
        // No schema speaks of these: they are found when the query is used.
        "runs?filter[salad]=x",
        "runs?limit=1&limit=1",
        "runs?sort_by=created_at&sort_by=created_at",
        "run_hosts?filter[salad]=x",
        "run_hosts?offset=1&offset=1",
    ] {
        assert_eq!(answer(get(&service, later)).await, (403, FORBIDDEN.to_owned()), "{later}");
    }
}

#[tokio::test]
async fn an_answer_counts_for_a_while_for_one_identity() {
    let rbac = Stub::start(|_| Reply::text(404, "")).await.unwrap();
    says(&rbac, reads(&json!(null)));
    let service = start(rbac.port(), &[("RBAC_CACHE_TTL", "300")]).await;
    for _ in 0..3 {
        assert_eq!(answer(get(&service, "runs")).await.0, 200);
        assert_eq!(answer(get(&service, "run_hosts")).await.0, 200);
    }
    assert_eq!(rbac.seen().len(), 1);
    says(&rbac, page(json!([])));
    let other = Client::new().get(format!("{}{BASE}/runs", service.url));
    let other = other.header("x-rh-identity", identity_of("bob"));
    assert_eq!(answer(other).await.0, 403);
    assert_eq!(rbac.seen().len(), 2);
}

#[tokio::test]
async fn who_comes_while_rbac_is_asked_waits_for_the_same_answer() {
    let rbac = Stub::start(|_| Reply::text(404, "")).await.unwrap();
    let gate = Arc::new(Semaphore::new(0));
    let Reply::Answer(status, kind, body) = reads(&json!(null)) else { unreachable!() };
    says(&rbac, Reply::Held(Arc::clone(&gate), status, kind, body));
    let service = start(rbac.port(), &[("RBAC_CACHE_TTL", "300")]).await;
    let first = tokio::spawn(answer(get(&service, "runs")));
    let since = std::time::Instant::now();
    while rbac.seen().is_empty() {
        assert!(since.elapsed() < PATIENCE, "RBAC was not asked");
        tokio::task::yield_now().await;
    }
    // The one who asked goes away, which is nobody else's loss.
    first.abort();
    let others: Vec<_> = (0..20).map(|_| tokio::spawn(answer(get(&service, "runs")))).collect();
    gate.add_permits(1);
    for other in others {
        assert_eq!(other.await.unwrap().0, 200);
    }
    assert_eq!(rbac.seen().len(), 1);
}

#[tokio::test]
async fn every_route_that_shows_a_run_keeps_to_the_services() {
    let rbac = Stub::start(|_| Reply::text(404, "")).await.unwrap();
    says(&rbac, reads(&json!(["tasks"])));
    let service = start(rbac.port(), &[("RBAC_CACHE_TTL", "0")]).await;
    let (own, other) = (run_of(&service, "tasks").await, run_of(&service, "remediations").await);
    let own_paths =
        [format!("runs/{own}"), format!("runs/{own}/log"), format!("runs/{own}/hosts/tasks/log")];
    for path in &own_paths {
        assert_eq!(answer(get(&service, path)).await.0, 200, "{path}");
    }
    for path in [
        format!("runs/{other}"),
        format!("runs/{other}/log"),
        format!("runs/{other}/hosts/remediations/log"),
    ] {
        let (status, body) = answer(get(&service, &path)).await;
        assert_eq!(status, 404, "{path}");
        assert!(body.contains("\"run_not_found\""), "{body}");
    }
    let (_, hosts) = answer(get(&service, "run_hosts")).await;
    let hosts: Value = serde_json::from_str(&hosts).unwrap();
    assert_eq!(hosts["meta"]["total"], 1);
    assert_eq!(hosts["data"][0]["run"]["id"], json!(own));

    // Ours say it in our form.
    for (said, expected, code) in [
        (page(json!([])), 403, "no_permission"),
        (Reply::json(500, &json!({})), 503, "rbac_unavailable"),
    ] {
        says(&rbac, said);
        for path in &own_paths {
            let (status, body) = answer(get(&service, path)).await;
            let body: Value = serde_json::from_str(&body).unwrap();
            assert_eq!((status, &body["error_code"]), (expected, &json!(code)), "{path}");
            assert!(body["request_id"].is_string() && body["message"].is_string());
        }
    }
    // Whoever has a key of their own is not RBAC's business.
    let asked = rbac.seen().len();
    for path in [format!("{BASE}/runs"), format!("{BASE}/runs/{other}")] {
        let answered = service.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(answered.status(), 200);
    }
    assert_eq!(rbac.seen().len(), asked);
}

#[tokio::test]
async fn a_follower_is_let_go_when_its_permission_is_gone() {
    let rbac = Stub::start(|_| Reply::text(404, "")).await.unwrap();
    says(&rbac, reads(&json!(null)));
    let service = start(rbac.port(), &[("RBAC_CACHE_TTL", "0")]).await;
    let run = run_of(&service, "tasks").await;
    let following = get(&service, &format!("runs/{run}/log?follow=true")).send().await.unwrap();
    assert_eq!(following.status(), 200);
    says(&rbac, reads(&json!(["remediations"])));
    let ended = tokio::time::timeout(PATIENCE, following.bytes()).await;
    assert_eq!(ended.expect("the answer goes on").unwrap(), "");
}

#[tokio::test]
async fn the_mock_shows_runs_of_three_services_and_off_shows_all() {
    let variables = [("IDENTITY_HEADER_FROM", "loopback"), ("RBAC_IMPL", "mock")];
    let mock = InProcess::start_with(&variables, |stores| stores).await.unwrap();
    let off = InProcess::start_with(&variables[..1], |stores| stores).await.unwrap();
    let mut all = vec!["config_manager", "remediations", "tasks", "test"];
    for service in [&mock, &off] {
        for name in &all {
            run_of(service, name).await;
        }
    }
    assert_eq!(services_seen(&off).await, all);
    all.remove(2);
    assert_eq!(services_seen(&mock).await, all);
}
