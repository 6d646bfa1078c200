//! The frame around the contract's routes: order of checks, exact bodies, limits, request ids.

use dispatcher_tests::{
    process::BASE,
    raw::{self, Answer},
    service::{InProcess, KEY, ORG},
};
use serde_json::{Value, json};

const DISPATCH: &str = "/internal/v2/dispatch";

/// A POST with this body; `authorization` may be left out.
async fn post(service: &InProcess, path: &str, authorization: Option<&str>, body: &str) -> Answer {
    let authorization =
        authorization.map_or_else(String::new, |value| format!("authorization: {value}\r\n"));
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{authorization}\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    raw::send(&service.url, request.as_bytes()).await.unwrap()
}

async fn get(service: &InProcess, path: &str, headers: &str) -> Answer {
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n");
    raw::send(&service.url, request.as_bytes()).await.unwrap()
}

fn key() -> String {
    format!("PSK {KEY}")
}

fn valid() -> Value {
    json!([{
        "recipient": "9200e4a3-c97c-4021-9856-82fa4673e8d2", "org_id": ORG, "principal": "p",
        "url": "https://example.com/p", "name": "n"
    }])
}

#[tokio::test]
async fn bodies_are_checked_before_keys_and_keys_before_anything_else() {
    let service = InProcess::start().await.unwrap();
    let answer = post(&service, DISPATCH, None, "[]").await;
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.body,
        "{\"message\":\"request body has an error: doesn't match schema: \
         minimum number of items is 1\"}\n"
    );
    assert_eq!(answer.header("content-type"), Some("application/json"));

    let body = valid().to_string();
    let cases = [
        (None, 401, "Unauthorized"),
        (Some("Bearer x"), 401, "Unsupported authentication key format"),
        (Some("PSK a-b"), 401, "Unsupported authentication key format"),
        (Some("PSK other"), 403, "Forbidden"),
    ];
    for (authorization, status, message) in cases {
        let answer = post(&service, DISPATCH, authorization, &body).await;
        assert_eq!(answer.status, status, "{authorization:?}");
        assert_eq!(answer.body, format!("{{\"message\":\"{message}\"}}\n"));
    }

    let answer = post(&service, DISPATCH, Some(&key()), &body).await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (207, "[{\"code\":404,\"message\":\"Receipient not found\"}]\n")
    );
}

#[tokio::test]
async fn an_empty_body_is_valid_then_needs_a_key_then_fails_without_a_word() {
    let service = InProcess::start().await.unwrap();
    let answer = post(&service, DISPATCH, None, "").await;
    assert_eq!((answer.status, answer.body.as_str()), (401, "{\"message\":\"Unauthorized\"}\n"));
    let answer = post(&service, DISPATCH, Some(&key()), "").await;
    assert_eq!((answer.status, answer.body.as_str()), (400, ""));
}

#[tokio::test]
async fn what_is_no_json_or_says_so_is_refused() {
    let service = InProcess::start().await.unwrap();
    for broken in ["{", "[1,]", "nothing", "[] []", "\u{feff}[]"] {
        let answer = post(&service, DISPATCH, None, broken).await;
        assert_eq!(answer.status, 400, "{broken}");
        let expected = "{\"message\":\"request body has an error: failed to decode request body: ";
        assert!(answer.body.starts_with(expected), "{}", answer.body);
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(post(&service, DISPATCH, None, &deep).await.status, 400);
    let request = format!(
        "POST {DISPATCH} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: text/plain\r\ncontent-length: 2\r\n\r\n[]"
    );
    let answer = raw::send(&service.url, request.as_bytes()).await.unwrap();
    assert_eq!(
        answer.body,
        "{\"message\":\"request body has an error: header Content-Type has unexpected value \
         \\\"text/plain\\\"\"}\n"
    );
}

#[tokio::test]
async fn bodies_have_one_limit_however_they_are_sent() {
    let service = InProcess::start().await.unwrap();
    let filler = "x".repeat(512_000 - valid().to_string().len());
    let mut fits = valid();
    fits[0]["name"] = json!(format!("n{filler}"));
    assert_eq!(fits.to_string().len(), 512_000);
    let answer = post(&service, DISPATCH, Some(&key()), &fits.to_string()).await;
    assert_eq!(answer.status, 207, "{}", answer.body);

    fits[0]["name"] = json!(format!("nn{filler}"));
    let answer = post(&service, DISPATCH, Some(&key()), &fits.to_string()).await;
    assert_eq!(answer.status, 413);
    assert_eq!(answer.body, "{\"message\":\"Request Entity Too Large\"}\n");

    let body = fits.to_string();
    let request = format!(
        "POST {DISPATCH} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n\
         {:x}\r\n{body}\r\n0\r\n\r\n",
        body.len()
    );
    let answer = raw::send(&service.url, request.as_bytes()).await.unwrap();
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("request body has an error: reading failed"), "{}", answer.body);
}

#[tokio::test]
async fn a_path_that_is_no_text_names_nothing() {
    let service = InProcess::start().await.unwrap();
    let own = format!("authorization: {}\r\nx-dispatcher-org: {ORG}\r\n", key());
    for path in ["runs/%ff", "runs/%ff/log", "playbooks/%ff", "playbook-content/%ff/00"] {
        let answer = get(&service, &format!("{BASE}/{path}"), &own).await;
        assert_eq!(answer.status, 404, "{path}: {}", answer.body);
        assert!(answer.body.contains("\"error_code\":\"path_not_text\""), "{}", answer.body);
    }
}

#[tokio::test]
async fn unknown_paths_and_methods_answer_as_their_group_does() {
    let service = InProcess::start().await.unwrap();
    let cases = [
        ("/nothing", 404, "Not Found"),
        ("/internal/nothing", 404, "no matching operation was found"),
        (DISPATCH, 404, "method not allowed"),
    ];
    for (path, status, message) in cases {
        let answer = get(&service, path, "").await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.body, format!("{{\"message\":\"{message}\"}}\n"), "{path}");
    }
    let path = format!("{BASE}/nothing");
    let answer = get(&service, &path, "").await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.body, "Bad Request: missing x-rh-identity header\n");
    let own = format!("authorization: {}\r\nx-dispatcher-org: {ORG}\r\n", key());
    let answer = get(&service, &path, &own).await;
    assert_eq!(answer.body, "{\"message\":\"no matching operation was found\"}\n");
    let answer = post(&service, &format!("{BASE}/runs"), Some(&key()), "").await;
    assert_eq!(answer.status, 400, "it names no organisation: {}", answer.body);
}

#[tokio::test]
async fn a_key_for_all_organisations_has_to_name_one() {
    let service = InProcess::start().await.unwrap();
    let path = format!("{BASE}/runs");
    let answer = get(&service, &path, &format!("authorization: {}\r\n", key())).await;
    assert_eq!(answer.status, 400);
    assert!(answer.body.contains("\"error_code\":\"org_required\""), "{}", answer.body);
    for bad in ["", "elevenchars"] {
        let headers = format!("authorization: {}\r\nx-dispatcher-org: {bad}\r\n", key());
        assert_eq!(get(&service, &path, &headers).await.status, 400, "{bad}");
    }
    let headers = format!("authorization: {}\r\nx-dispatcher-org: other\r\n", key());
    assert_eq!(get(&service, &path, &headers).await.status, 200);
}

#[tokio::test]
async fn request_ids_are_taken_over_or_made() {
    let service = InProcess::start().await.unwrap();
    let id = "x-rh-insights-request-id";
    let internal = "x-rh-playbook-dispatcher-internal-request-id";
    let first = get(&service, "/internal/version", &format!("{id}: abc\r\n")).await;
    assert_eq!(first.header(id), Some("abc"));
    assert_eq!(first.body, "\"unknown\"\n");
    let second =
        get(&service, "/internal/version", &format!("{id}: {}\r\n", "x".repeat(256))).await;
    let made = second.header(id).unwrap();
    assert!(made.contains('/') && made.ends_with("-000001"), "{made}");
    let uuid = uuid::Uuid::parse_str(second.header(internal).unwrap()).unwrap();
    assert_eq!(uuid.get_version_num(), 4);
    assert_ne!(first.header(internal), second.header(internal));
    let refused = get(&service, &format!("{BASE}/runs/x"), "authorization: PSK x\r\n").await;
    assert!(refused.header(id).is_some(), "{}", refused.head);
}

#[tokio::test]
async fn probes_say_what_is_missing() {
    let service = InProcess::start().await.unwrap();
    assert_eq!(get(&service, "/health/live", "").await.status, 200);
    assert_eq!(get(&service, "/health/ready", "").await.body, "{\"status\":\"ready\"}\n");
    let root = get(&service, "/api/v1/", "").await;
    assert!(root.body.contains("\"name\":\"dispatcher-api\""), "{}", root.body);
    let request = b"HEAD /api/v1/ HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let head = raw::send(&service.url, request).await.unwrap();
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    service.app.lifecycle.start_draining();
    let ready = get(&service, "/health/ready", "").await;
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("\"name\":\"instance\""), "{}", ready.body);
    assert_eq!(get(&service, "/api/v1/", "").await.status, 503);
    assert_eq!(get(&service, "/health/live", "").await.status, 200);
}

#[tokio::test]
async fn without_its_object_store_it_is_ready_and_says_what_does_not_work() {
    let service = InProcess::start().await.unwrap();
    let objects = service.app.settings.storage.directory().unwrap().to_owned();
    let away = objects.with_extension("away");
    std::fs::rename(&objects, &away).unwrap();
    let ready = get(&service, "/health/ready", "").await;
    let body: Value = serde_json::from_str(&ready.body).unwrap();
    assert_eq!((ready.status, &body["status"]), (200, &json!("degraded")), "{body}");
    assert_eq!(body["degraded"][0]["name"], "store", "{body}");
    service.app.lifecycle.start_draining();
    assert_eq!(get(&service, "/health/ready", "").await.status, 503);
    std::fs::rename(&away, &objects).unwrap();
}

#[tokio::test]
async fn json_is_indented_for_people_where_that_is_wanted() {
    for name in ["JSONIFY_PRETTYPRINT_REGULAR", "JSONIFY_PRETTYPRINT_REGULAR "] {
        let service = InProcess::start_with(&[(name, "true")], |stores| stores).await.unwrap();
        let root = get(&service, "/api/v1/", "").await;
        assert!(root.body.starts_with("{\n  \"name\": \"dispatcher-api\",\n"), "{}", root.body);
        assert_eq!(get(&service, "/internal/version", "").await.body.lines().count(), 1);
        let refused = post(&service, DISPATCH, None, "[]").await;
        let message: Value = serde_json::from_str(&refused.body).unwrap();
        assert!(message["message"].is_string() && refused.body.contains("\n  \"message\": \""));
        let created = post(&service, DISPATCH, Some(&key()), &valid().to_string()).await;
        assert!(created.body.starts_with("[\n  {\n    \"code\": "), "{}", created.body);
        let request = b"HEAD /api/v1/ HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        assert_eq!(raw::send(&service.url, request).await.unwrap().body, "");
    }
    let service = InProcess::start_with(&[("JSONIFY_PRETTYPRINT_REGULAR", "no")], |stores| stores);
    let root = get(&service.await.unwrap(), "/api/v1/", "").await;
    assert_eq!(root.body.lines().count(), 1, "{}", root.body);
}

#[tokio::test]
async fn who_sends_far_too_much_still_reads_why_it_is_refused() {
    let service = InProcess::start().await.unwrap();
    let far_too_much = " ".repeat(16 << 20);
    let refused = post(&service, DISPATCH, Some(&key()), &far_too_much).await;
    assert_eq!(refused.status, 413, "{}", refused.head);
    let refused = post(&service, "/nowhere", None, &far_too_much).await;
    assert_eq!(refused.status, 413, "{}", refused.head);
}
