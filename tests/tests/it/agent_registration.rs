//! How a worker registers: once per token, the same request alike, and what a key may reach.

use std::os::unix::fs::PermissionsExt as _;

use dispatcher_api::{
    audit::model::Actor,
    auth::principal::{Kind, OrgScope, Principal, Role},
    recipients::registration::make_token,
};
use dispatcher_tests::{
    agent_home::{self, AgentHome},
    home::Home,
    process::BASE,
    service::{InProcess, ORG, new_run},
    worker::{self, ScriptedWorker},
};
use dispatcher_wire::registration::TokenRequest;
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

/// A token, made by somebody with this role.
async fn token(service: &InProcess, role: Role, recipient: Option<Uuid>) -> String {
    let org = OrgScope::One(ORG.to_owned());
    let caller = Principal { kind: Kind::Service, id: "test".to_owned(), org, role };
    let request = TokenRequest { recipient, ..TokenRequest::default() };
    let actor = Actor::of(&caller, String::new());
    let store = service.app.stores.registrations.as_ref();
    let now = OffsetDateTime::now_utc().truncate_to_microsecond();
    let made = make_token(store, &service.app.keyring, (&caller, ORG), &actor, request, now).await;
    made.unwrap().token
}

fn key(recipient: Uuid, letter: char) -> String {
    format!("dwk_{}_{}", recipient.simple(), letter.to_string().repeat(40))
}

async fn register(service: &InProcess, token: &str, recipient: Uuid, key: &str) -> Response {
    reqwest::Client::new()
        .post(format!("{}{BASE}/recipients/register", service.url))
        .header("authorization", format!("Bearer {token}"))
        .json(&json!({ "recipient": recipient, "name": "host", "key": key, "facts": {"os": "x"} }))
        .send()
        .await
        .unwrap()
}

async fn code(answer: Response) -> (StatusCode, String) {
    let status = answer.status();
    let body: Value = answer.json().await.unwrap();
    (status, body["error_code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_token_registers_once_and_a_lost_answer_costs_nothing() {
    let service = InProcess::start().await.unwrap();
    let (first, id) = (token(&service, Role::Operator, None).await, Uuid::new_v4());
    let (own, other) = (key(id, 'a'), key(id, 'b'));
    for _ in 0..2 {
        let answer = register(&service, &first, id, &own).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.json::<Value>().await.unwrap()["org_id"], ORG);
    }
    let used = (StatusCode::CONFLICT, "token_used".to_owned());
    assert_eq!(code(register(&service, &first, id, &other).await).await, used);
    let stranger = Uuid::new_v4();
    assert_eq!(code(register(&service, &first, stranger, &key(stranger, 'a')).await).await, used);
    let unknown = format!("drt_{}", "x".repeat(40));
    let refused = code(register(&service, &unknown, id, &own).await).await;
    assert_eq!(refused, (StatusCode::UNAUTHORIZED, "token_unknown".to_owned()));
    let refused = code(register(&service, "dwk_x", id, &own).await).await;
    assert_eq!(refused, (StatusCode::UNAUTHORIZED, "token_required".to_owned()));
}

#[tokio::test]
async fn registering_again_needs_an_admin_and_ends_the_old_key() {
    let service = InProcess::start().await.unwrap();
    let id = Uuid::new_v4();
    let first = token(&service, Role::Operator, None).await;
    let old = key(id, 'a');
    assert!(register(&service, &first, id, &old).await.status().is_success());
    let again = token(&service, Role::Operator, None).await;
    let refused = code(register(&service, &again, id, &key(id, 'b')).await).await;
    assert_eq!(refused, (StatusCode::CONFLICT, "recipient_registered".to_owned()));
    // The key of the service `test` is an operator's.
    let asked = service
        .request(Method::POST, &format!("{BASE}/recipients/registrations"))
        .json(&json!({ "recipient": id }));
    let refused = code(asked.send().await.unwrap()).await;
    assert_eq!(refused, (StatusCode::FORBIDDEN, "role_required".to_owned()));
    let worker = ScriptedWorker::new(&service.url, id, old);
    worker.wait(0).await.unwrap();
    let by_admin = token(&service, Role::Admin, Some(id)).await;
    let other = Uuid::new_v4();
    let refused = code(register(&service, &by_admin, other, &key(other, 'a')).await).await;
    assert_eq!(refused, (StatusCode::FORBIDDEN, "token_other_recipient".to_owned()));
    assert!(register(&service, &by_admin, id, &key(id, 'c')).await.status().is_success());
    ScriptedWorker::new(&service.url, id, key(id, 'c')).wait(0).await.unwrap();
    let replaced = std::time::Instant::now();
    while worker.wait(0).await.is_ok() {
        assert!(replaced.elapsed() < std::time::Duration::from_secs(5), "the old key lives on");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn labels_are_the_operators_and_a_removed_recipient_is_gone() {
    let service = InProcess::start().await.unwrap();
    let worker = service.worker().await.unwrap();
    let path = format!("{BASE}/recipients/{}", worker.recipient);
    let labels = json!({ "env": "prod", "tier": "1" });
    let put = service.request(Method::PUT, &format!("{path}/labels")).json(&labels);
    let view: Value = put.send().await.unwrap().error_for_status().unwrap().json().await.unwrap();
    assert_eq!(view["labels"], labels);
    let facts = json!({ "worker_version": "9.9", "labels": ["x"], "env": "test" });
    let told = worker.request(Method::POST, "execution/facts").json(&facts).send().await.unwrap();
    assert_eq!(told.status(), StatusCode::NO_CONTENT);
    let shown = service.request(Method::GET, &path).send().await.unwrap();
    let shown: Value = shown.json().await.unwrap();
    assert_eq!((&shown["labels"], &shown["facts"]), (&labels, &facts));
    assert_eq!(shown["version"], "9.9");
    let own = worker.request(Method::PUT, &format!("recipients/{}/labels", worker.recipient));
    let own = own.json(&json!({})).send().await.unwrap().status();
    assert!(own.is_client_error(), "a worker cannot change labels: {own}");
    for (query, count) in [("env%5D=prod", 1), ("env%5D=test", 0), ("none%5D=", 0)] {
        let list = format!("{BASE}/recipients?filter%5Blabels%5D%5B{query}");
        let page = service.request(Method::GET, &list).send().await.unwrap();
        let page: Value = page.json().await.unwrap();
        assert_eq!(page["meta"]["total"], count, "{query}");
    }
    let refused = service.request(Method::DELETE, &path).send().await.unwrap();
    assert_eq!(code(refused).await.0, StatusCode::FORBIDDEN, "that is an admin's");
}

#[tokio::test]
async fn a_stolen_key_reaches_only_the_runs_of_its_recipient() {
    let service = InProcess::start().await.unwrap();
    let (own, other) = (service.worker().await.unwrap(), service.worker().await.unwrap());
    service.create(new_run(other.recipient)).await.unwrap();
    assert!(own.claim().await.unwrap().is_none());
    let run = other.claimed().await.unwrap();
    let lost = own.send(run.run_id, run.claim, 0, worker::lines(&[worker::start(&run)]).unwrap());
    assert_eq!(code(lost.await.unwrap()).await.1, "claim_lost");
    assert_eq!(code(own.end(&run, 0).await.unwrap()).await.1, "claim_lost");
    for path in ["runs", "recipients", "playbooks", "uploads", "audit"] {
        let answer = own.request(Method::GET, path).send().await.unwrap();
        assert!(answer.status().is_client_error(), "{path}: {}", answer.status());
    }
}

#[tokio::test]
async fn the_program_registers_keeps_its_key_to_itself_and_says_what_to_do() {
    let home = Home::standalone().unwrap();
    let service = home.start().await.unwrap();
    let state = home.path().join("agent");
    let early = agent_home::command(&state, &["run"], "").await.unwrap();
    assert!(String::from_utf8_lossy(&early.stderr).contains("dispatchctl recipients token create"));
    let worker = AgentHome::register(&service, &state, "web-1").await.unwrap();
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&state), mode(&state.join("identity.json"))), (0o700, 0o600));
    let view = worker.view(&service).await.unwrap();
    assert_eq!(view.recipient.name, "web-1");
    assert!(view.facts.unwrap().contains_key("kernel"));
    let status = agent_home::command(&state, &["status"], "").await.unwrap();
    let shown = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(shown.contains("not running") && shown.contains("key           accepted"), "{shown}");
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(state.join("identity.json"), open).unwrap();
    let refused = agent_home::command(&state, &["run"], "").await.unwrap();
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && told.contains("chmod 600"), "{told}");
    let plain = ["register", "--url", "http://192.0.2.1"];
    let refused = agent_home::command(&home.path().join("other"), &plain, "drt_x").await.unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("WORKER_ALLOW_HTTP"));
}

#[tokio::test]
async fn the_reference_of_the_workers_settings_is_what_the_program_says() {
    let state = tempfile::tempdir().unwrap();
    let said = agent_home::command(state.path(), &["config", "--markdown"], "").await.unwrap();
    assert!(said.status.success(), "{said:?}");
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/worker.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let (_, from) = docs.split_once("<!-- settings -->\n").unwrap();
    let (table, _) = from.split_once("<!-- /settings -->").unwrap();
    assert_eq!(table, String::from_utf8(said.stdout).unwrap());
}
