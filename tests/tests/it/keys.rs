//! Keys of services over the real router: who may make, replace and revoke which, what is shown
//! once, and how a change is confirmed.

use dispatcher_api::instances::model::{Instance, ProcessKind, Sign};
use dispatcher_tests::{
    process::{BASE, SECRET_KEYS, binary},
    rows,
    service::{InProcess, KEY, ORG, ORG_ADMIN_KEY},
};
use dispatcher_wire::service_key;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

async fn answer(request: RequestBuilder) -> (StatusCode, Value) {
    let answer = request.send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

fn post(service: &InProcess, path: &str, body: &Value) -> RequestBuilder {
    service.admin(Method::POST, &format!("{BASE}/{path}")).json(body)
}

async fn made(service: &InProcess, body: &Value) -> Value {
    let (status, body) = answer(post(service, "keys", body)).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    body
}

async fn refused(request: RequestBuilder, status: StatusCode, code: &str) -> String {
    let (found, body) = answer(request).await;
    assert_eq!((found, body["error_code"].as_str()), (status, Some(code)), "{body}");
    body["message"].as_str().unwrap().to_owned()
}

fn count(service: &InProcess, table: &str) -> i64 {
    rows::value(&service.database(), &format!("SELECT count(*) FROM {table}")).unwrap()
}

#[tokio::test]
async fn a_key_is_shown_once_and_kept_as_a_digest() {
    let service = InProcess::start().await.unwrap();
    let body = json!({"service": "tasks", "role": "reader", "org_id": "12"});
    let request = post(&service, "keys", &body).send().await.unwrap();
    assert_eq!(request.headers()["cache-control"], "no-store");
    let made: Value = request.json().await.unwrap();
    let secret = made["secret"].as_str().unwrap();
    assert_eq!(service_key::id_of(secret), made["key"]["id"].as_str());
    let key = &made["key"];
    assert_eq!((&key["role"], &key["org_id"]), (&json!("reader"), &json!("12")));
    assert_eq!((&key["state"], &key["source"]), (&json!("live"), &json!("database")));
    assert_eq!(key["created_by"], "service:admin");
    assert!(made["auth_version"].as_u64().unwrap() > 1);

    let (_, list) = answer(service.admin(Method::GET, &format!("{BASE}/keys"))).await;
    assert_eq!(list["meta"], json!({"count": 2, "total": 2}));
    assert_eq!(list["data"][0]["id"], "env:test");
    assert_eq!(list["data"][0]["source"], "settings");
    assert_eq!(&list["data"][1], key);
    assert!(!list.to_string().contains(secret));
    let (_, log) = answer(service.admin(Method::GET, &format!("{BASE}/audit"))).await;
    assert_eq!(log["data"][0]["action"], "key.create");
    assert!(!log.to_string().contains(secret));
    let file = std::fs::read(service.database()).unwrap();
    assert!(!file.windows(secret.len()).any(|bytes| bytes == secret.as_bytes()));
}

#[tokio::test]
async fn a_repeated_request_makes_no_second_key() {
    let service = InProcess::start().await.unwrap();
    let body = json!({"id": "abcd1234", "service": "tasks", "all_orgs": true});
    made(&service, &body).await;
    let message = refused(post(&service, "keys", &body), StatusCode::CONFLICT, "key_exists").await;
    assert!(message.contains("abcd1234") && message.contains("revoke it"), "{message}");
    let rotation = json!({"id": "abcd1234"});
    let rotate = post(&service, "keys/abcd1234/rotate", &rotation);
    refused(rotate, StatusCode::CONFLICT, "key_exists").await;
    assert_eq!((count(&service, "service_keys"), count(&service, "audit")), (1, 1));
}

#[tokio::test]
async fn a_rotation_makes_a_successor_and_a_third_is_refused() {
    let service = InProcess::start().await.unwrap();
    let first = made(&service, &json!({"service": "tasks", "role": "admin", "org_id": "1"})).await;
    let id = first["key"]["id"].as_str().unwrap();
    let rotate = format!("keys/{id}/rotate");
    let (status, second) = answer(post(&service, &rotate, &json!({"overlap_seconds": 60}))).await;
    assert_eq!(status, StatusCode::CREATED, "{second}");
    for member in ["service", "role", "org_id"] {
        assert_eq!(second["key"][member], first["key"][member]);
    }
    assert!(second["replaces"]["expires_at"].is_string());
    assert_eq!(second["auth_version"].as_u64(), first["auth_version"].as_u64().map(|v| v + 1));
    let third = post(&service, &rotate, &json!({}));
    let message = refused(third, StatusCode::CONFLICT, "too_many_keys").await;
    assert!(message.contains(id) && message.contains(second["key"]["id"].as_str().unwrap()));

    let delete = || service.admin(Method::DELETE, &format!("{BASE}/keys/{id}"));
    let (status, revoked) = answer(delete()).await;
    assert_eq!((status, &revoked["key"]["state"]), (StatusCode::OK, &json!("revoked")));
    assert_eq!(answer(delete()).await.1, revoked, "a second time it is the same");
    refused(post(&service, &rotate, &json!({})), StatusCode::CONFLICT, "key_not_live").await;
    assert_eq!((count(&service, "service_keys"), count(&service, "audit")), (2, 3));
}

#[tokio::test]
async fn wrong_requests_say_what_is_allowed() {
    let service = InProcess::start().await.unwrap();
    for (body, part) in [
        (json!({"service": "Tasks", "all_orgs": true}), "a-z 0-9"),
        (json!({"service": "tasks"}), "org_id for one organisation, or all_orgs"),
        (json!({"service": "tasks", "all_orgs": true, "role": "root"}), "reader, operator, admin"),
        (json!({"service": "tasks", "all_orgs": true, "id": "x"}), "8 letters and digits"),
        (
            json!({"service": "tasks", "all_orgs": true, "expires_at": "2001-01-01T00:00:00Z"}),
            "2027",
        ),
    ] {
        let request = post(&service, "keys", &body);
        let message = refused(request, StatusCode::BAD_REQUEST, "key_invalid").await;
        assert!(message.contains(part), "{message}");
    }
    refused(
        post(&service, "keys", &json!({"srvice": "a"})),
        StatusCode::BAD_REQUEST,
        "invalid_body",
    )
    .await;
    let unknown = service.admin(Method::DELETE, &format!("{BASE}/keys/unknown1"));
    refused(unknown, StatusCode::NOT_FOUND, "key_not_found").await;
    let fixed = service.admin(Method::DELETE, &format!("{BASE}/keys/env:test"));
    let message = refused(fixed, StatusCode::CONFLICT, "key_from_settings").await;
    assert!(message.contains("PSK_AUTH_TEST"), "{message}");
    assert_eq!((count(&service, "service_keys"), count(&service, "audit")), (0, 0));
}

#[tokio::test]
async fn only_admins_and_only_their_own_organisation() {
    let service = InProcess::start().await.unwrap();
    for (method, path) in [
        (Method::GET, "keys"),
        (Method::POST, "keys"),
        (Method::POST, "keys/abcd1234/rotate"),
        (Method::DELETE, "keys/abcd1234"),
        (Method::GET, "auth/confirmations?version=1"),
        (Method::GET, "audit"),
    ] {
        let request = service.as_key(KEY, method, &format!("{BASE}/{path}")).json(&json!({}));
        refused(request, StatusCode::FORBIDDEN, "role_required").await;
    }
    let other = made(&service, &json!({"service": "tasks", "org_id": "other"})).await;
    let all = made(&service, &json!({"service": "tasks", "all_orgs": true})).await;
    let as_org =
        |method, path: &str| service.as_key(ORG_ADMIN_KEY, method, &format!("{BASE}/{path}"));
    for body in [json!({"all_orgs": true}), json!({"org_id": "other"})] {
        let mut body = body;
        body["service"] = json!("tasks");
        let request = as_org(Method::POST, "keys").json(&body);
        refused(request, StatusCode::FORBIDDEN, "org_forbidden").await;
    }
    for foreign in [other, all] {
        let id = foreign["key"]["id"].as_str().unwrap();
        let delete = as_org(Method::DELETE, &format!("keys/{id}"));
        refused(delete, StatusCode::NOT_FOUND, "key_not_found").await;
        let rotate = as_org(Method::POST, &format!("keys/{id}/rotate")).json(&json!({}));
        refused(rotate, StatusCode::NOT_FOUND, "key_not_found").await;
    }
    let fixed = as_org(Method::DELETE, "keys/env:test");
    refused(fixed, StatusCode::NOT_FOUND, "key_not_found").await;
    let (status, own) =
        answer(as_org(Method::POST, "keys").json(&json!({"service": "tasks"}))).await;
    assert_eq!((status, &own["key"]["org_id"]), (StatusCode::CREATED, &json!(ORG)));
    let (_, list) = answer(as_org(Method::GET, "keys")).await;
    assert_eq!(list["data"], json!([own["key"]]));
    let (_, log) = answer(as_org(Method::GET, "audit")).await;
    assert_eq!(log["meta"]["total"], 1);
    assert_eq!(log["data"][0]["target"], own["key"]["id"]);
}

#[tokio::test]
async fn two_requests_at_once_never_make_a_third_live_key() {
    let service = InProcess::start().await.unwrap();
    let body = json!({"service": "tasks", "all_orgs": true});
    let requests = (0..6).map(|_| answer(post(&service, "keys", &body)));
    let answers = futures_util::future::join_all(requests).await;
    let made = answers.iter().filter(|(status, _)| *status == StatusCode::CREATED).count();
    let refused = answers.iter().filter(|(_, body)| body["error_code"] == "too_many_keys").count();
    assert_eq!((made, refused), (2, 4), "{answers:?}");
    assert_eq!((count(&service, "service_keys"), count(&service, "audit")), (2, 2));
}

#[tokio::test]
async fn confirmations_count_the_living() {
    let service = InProcess::start().await.unwrap();
    let store = &service.app.stores.instances;
    for (kind, auth_version) in
        [(ProcessKind::Api, 6), (ProcessKind::Api, 7), (ProcessKind::AuthTracker, 7)]
    {
        let sign = Sign { auth_version, ..Sign::default() };
        store.beat(&Instance::of_this_process(kind, None), sign).await.unwrap();
    }
    let ask = |version: &str| {
        service.admin(Method::GET, &format!("{BASE}/auth/confirmations?version={version}"))
    };
    let (_, found) = answer(ask("7")).await;
    let (instances, trackers) =
        (json!({"live": 2, "in_force": 1}), json!({"live": 1, "in_force": 1}));
    assert_eq!(found, json!({"version": 7, "instances": instances, "trackers": trackers}));
    assert_eq!(answer(ask("8")).await.1["trackers"]["in_force"], 0);
    refused(ask("x"), StatusCode::BAD_REQUEST, "invalid_version").await;
}

#[tokio::test]
async fn anybody_may_ask_where_to_log_in() {
    let ask = async |variables: &[(&str, &str)]| {
        let service = InProcess::start_with(variables, |stores| stores).await.unwrap();
        let url = format!("{}{BASE}/identity/providers", service.url);
        reqwest::get(url).await.unwrap().json::<Value>().await.unwrap()
    };
    assert_eq!(ask(&[]).await, json!({"data": []}));
    let realm = [("SSO_URL", "https://sso.example"), ("SSO_REALM", "r"), ("SSO_CLIENT_ID", "cli")];
    let issuers = ["https://sso.example/realms/r", "https://sso.example/auth/realms/r"];
    let provider = json!({"issuers": issuers, "client_id": "cli", "scopes": ["openid"]});
    assert_eq!(ask(&realm).await, json!({"data": [provider]}));
    let issuer = ask(&[("SSO_ISSUER", "https://sso.example/i")]).await;
    assert_eq!(issuer["data"][0]["issuers"], json!(["https://sso.example/i"]));
}

/// Standard output and standard error of the service's own binary, on this database.
async fn on_host(directory: &std::path::Path, arguments: &[&str]) -> (bool, String, String) {
    let output = tokio::process::Command::new(binary("dispatcher-api").unwrap())
        .arg("keys")
        .args(arguments)
        .env_clear()
        .env("USER", "root")
        .env("DATABASE_URL", format!("sqlite:{}", directory.display()))
        .env("DISPATCHER_SECRET_KEYS", SECRET_KEYS)
        .output()
        .await
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn the_first_admin_is_made_on_the_host() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let create = ["create", "--service", "ops", "--role", "admin"];
    let (done, stdout, stderr) = on_host(path, &create).await;
    assert!(done, "{stderr}");
    let id = service_key::id_of(stdout.trim_end()).expect("nothing but the key").to_owned();
    assert!(stderr.contains(&id) && !stderr.contains(stdout.trim_end()), "{stderr}");
    let file = path.join("key");
    let rotate = ["rotate", &id, "--overlap", "60", "--output-file", file.to_str().unwrap()];
    let (done, stdout, stderr) = on_host(path, &rotate).await;
    assert!(done && stdout.is_empty(), "{stderr}");
    let second = std::fs::read_to_string(&file).unwrap();
    let second = service_key::id_of(second.trim_end()).unwrap().to_owned();
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let (done, _, stderr) = on_host(path, &create).await;
    assert!(!done && stderr.contains(&id) && stderr.contains(&second), "{stderr}");
    assert!(on_host(path, &["revoke", &id]).await.0);
    let (_, list, _) = on_host(path, &["list"]).await;
    assert!(list.contains("revoked") && list.contains("live") && list.contains("admin"), "{list}");
    let database = path.join(dispatcher_api::store::sqlite::FILE_NAME);
    let who = "SELECT count(*) FROM audit WHERE principal_kind = 'cli' AND principal_id = 'root'";
    assert_eq!(rows::value::<i64>(&database, who).unwrap(), 3);
}
