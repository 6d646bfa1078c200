//! In which order a request is checked, route by route (contract §1.2), and what each check answers:
//! status, type and bytes.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use dispatcher_tests::{
    process::BASE,
    raw::{self, Answer},
    service::{InProcess, KEY, ORG},
};
use serde_json::{Value, json};
use uuid::Uuid;

const UNAUTHORIZED: &str = "{\"message\":\"Unauthorized\"}\n";
const TOO_LARGE: &str = "{\"message\":\"Request Entity Too Large\"}\n";
/// One more than the most that a body may take.
const LARGE: &str = "content-length: 512001\r\n";

/// A request with these lines of a head and this body.
async fn send(service: &InProcess, request: &str, headers: &str, body: &str) -> Answer {
    let request = format!(
        "{request} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n{body}"
    );
    raw::send(&service.url, request.as_bytes()).await.unwrap()
}

async fn post(service: &InProcess, path: &str, authorization: &str, body: &str) -> Answer {
    let length = body.len();
    let headers =
        format!("{authorization}content-type: application/json\r\ncontent-length: {length}\r\n");
    send(service, &format!("POST {path}"), &headers, body).await
}

async fn trusting() -> InProcess {
    let variables = [("IDENTITY_HEADER_FROM", "loopback"), ("AUTH_FAILURES_PER_MINUTE", "0")];
    InProcess::start_with(&variables, |stores| stores).await.unwrap()
}

fn identity(json: &str) -> String {
    format!("x-rh-identity: {}\r\n", BASE64_STANDARD.encode(json))
}

fn user() -> String {
    identity(&format!(r#"{{"identity":{{"type":"User","org_id":"{ORG}"}}}}"#))
}

fn key() -> String {
    format!("authorization: PSK {KEY}\r\n")
}

fn message(text: &str) -> String {
    format!("{}\n", json!({ "message": text }))
}

/// The routes that take a body and a key, each with a body that is good.
fn with_key() -> [(&'static str, Value); 4] {
    let id = Uuid::new_v4();
    let url = "https://example.com/site.yml";
    [
        ("/internal/dispatch", json!([{ "recipient": id, "account": "1", "url": url }])),
        (
            "/internal/v2/dispatch",
            json!([{ "recipient": id, "org_id": ORG, "principal": "p", "name": "n", "url": url }]),
        ),
        ("/internal/v2/cancel", json!([{ "run_id": id, "org_id": ORG, "principal": "p" }])),
        ("/internal/v2/recipients/status", json!([{ "recipient": id, "org_id": ORG }])),
    ]
}

#[tokio::test]
async fn bodies_come_before_keys_and_keys_before_emptiness_on_every_route_of_services() {
    let service = trusting().await;
    let too_few =
        message("request body has an error: doesn't match schema: minimum number of items is 1");
    for (path, good) in with_key() {
        let good = good.to_string();
        let unknown = "authorization: PSK unknown\r\n";
        let shapeless = message("Unsupported authentication key format");
        for (authorization, body, status, expected) in [
            ("", "[]", 400, too_few.as_str()),
            (unknown, "[]", 400, &too_few),
            ("", "", 401, UNAUTHORIZED),
            ("", &good, 401, UNAUTHORIZED),
            ("authorization: \r\n", &good, 401, UNAUTHORIZED),
            ("authorization: psk abc\r\n", &good, 401, &shapeless),
            ("authorization: Bearer abc\r\n", &good, 401, &shapeless),
            ("authorization: PSK a_b\r\n", &good, 401, &shapeless),
            ("authorization: \u{e9}\r\n", &good, 401, &shapeless),
            (unknown, &good, 403, "{\"message\":\"Forbidden\"}\n"),
            (unknown, "", 403, "{\"message\":\"Forbidden\"}\n"),
            (&key(), "[]", 400, &too_few),
            (&key(), "", 400, ""),
        ] {
            let answer = post(&service, path, authorization, body).await;
            let at = format!("{path} {authorization:?} {body}");
            assert_eq!((answer.status, answer.body.as_str()), (status, expected), "{at}");
            let kind = (!expected.is_empty()).then_some("application/json");
            assert_eq!(answer.header("content-type"), kind, "{at}");
        }
        // An identity is nothing here.
        let answer = post(&service, path, &user(), &good).await;
        assert_eq!((answer.status, answer.body.as_str()), (401, UNAUTHORIZED), "{path}");
        let answer = post(&service, path, &key(), &good).await;
        assert!([200, 207].contains(&answer.status), "{path}: {}", answer.body);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert!(answer.body.starts_with('[') && answer.body.ends_with("]\n"), "{}", answer.body);
    }
}

#[tokio::test]
async fn only_json_counts_as_json() {
    let service = trusting().await;
    let (path, good) = &with_key()[2];
    let with = async |kind: &str| {
        let body = good.to_string();
        let headers = format!("{}{kind}content-length: {}\r\n", key(), body.len());
        send(&service, &format!("POST {path}"), &headers, &body).await
    };
    for kind in ["application/json", "application/json; charset=utf-8", "application/json;v=1"] {
        let answer = with(&format!("content-type: {kind}\r\n")).await;
        assert_eq!(answer.status, 207, "{kind}: {}", answer.body);
    }
    for kind in ["", "text/plain", "text/json", "application/xml", "application/json-seq"] {
        let line =
            if kind.is_empty() { String::new() } else { format!("content-type: {kind}\r\n") };
        let answer = with(&line).await;
        let text = "request body has an error: header Content-Type has unexpected value";
        let expected = message(&format!("{text} \"{kind}\""));
        assert_eq!((answer.status, answer.body), (400, expected), "{kind}");
    }
}

#[tokio::test]
async fn every_reason_against_an_identity_is_plain_text() {
    let service = trusting().await;
    let org = "Bad Request: x-rh-identity header has an invalid or missing org_id\n";
    let kind = "Bad Request: x-rh-identity header is missing type\n";
    let missing = "Bad Request: missing x-rh-identity header\n";
    let cases = [
        (String::new(), missing),
        ("x-rh-identity: \r\n".to_owned(), missing),
        (
            "x-rh-identity: {}\r\n".to_owned(),
            "Bad Request: unable to b64 decode x-rh-identity header\n",
        ),
        (identity("{}"), org),
        (identity(r#"{"identity":{"type":"User","account_number":"1"}}"#), org),
        (identity(r#"{"identity":{"org_id":"1"}}"#), kind),
        (identity(r#"{"identity":{"internal":{"org_id":"1"}}}"#), kind),
    ];
    let json = "Bad Request: x-rh-identity header does not contain valid JSON: ";
    let hosts = "GET /internal/v2/run_hosts?limit=0".to_owned();
    let status = json!({ "org_id": ORG, "hosts": ["h"] }).to_string();
    let body_headers =
        format!("content-type: application/json\r\ncontent-length: {}\r\n", status.len());
    for (request, more, body) in [
        (format!("GET {BASE}/runs?limit=0"), String::new(), ""),
        (format!("GET {BASE}/run_hosts?limit=0"), String::new(), ""),
        (format!("GET {BASE}/nothing"), String::new(), ""),
        (format!("POST {BASE}/runs"), String::new(), ""),
        ("GET /api/playbook-dispatcher".to_owned(), String::new(), ""),
        (hosts, key(), ""),
        ("POST /internal/v2/connection_status".to_owned(), body_headers, status.as_str()),
    ] {
        let plain = |answer: &Answer| {
            assert_eq!(answer.status, 400, "{request}");
            assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        };
        for (header, expected) in &cases {
            let answer = send(&service, &request, &format!("{header}{more}"), body).await;
            plain(&answer);
            assert_eq!(answer.body, *expected, "{request} {header}");
        }
        let answer = send(&service, &request, &format!("{}{more}", identity("{")), body).await;
        plain(&answer);
        let detail = answer.body.strip_prefix(json).unwrap_or_else(|| panic!("{}", answer.body));
        assert!(detail.len() > 1 && detail.ends_with('\n') && detail.lines().count() == 1);
    }
}

#[tokio::test]
async fn kinds_of_principals_count_in_lower_case_and_on_public_routes_only() {
    let service = trusting().await;
    let of =
        |kind: &str| identity(&json!({ "identity": { "type": kind, "org_id": ORG } }).to_string());
    for request in [format!("GET {BASE}/runs"), format!("GET {BASE}/run_hosts")] {
        for kind in ["User", "user", "USER", "ServiceAccount", "serviceaccount"] {
            assert_eq!(send(&service, &request, &of(kind), "").await.status, 200, "{kind}");
        }
        for kind in ["System", "X509", "Associate", "Cert", "Service-Account"] {
            let answer = send(&service, &request, &of(kind), "").await;
            let expected = format!("unauthorized principal type: {}\n", kind.to_lowercase());
            assert_eq!((answer.status, answer.body.as_str()), (403, expected.as_str()));
            assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        }
        // Those that pass without an organisation are of the wrong kind here.
        let without = identity(r#"{"identity":{"type":"X509"}}"#);
        let answer = send(&service, &format!("{request}?limit=0"), &without, "").await;
        assert_eq!(answer.body, "unauthorized principal type: x509\n", "before the query");
    }
    let hosts = "GET /internal/v2/run_hosts";
    let answer = send(&service, hosts, &format!("{}{}", key(), of("System")), "").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[tokio::test]
async fn what_is_not_there_is_a_404_whatever_the_method_and_after_the_identity() {
    let service = trusting().await;
    let nothing = message("no matching operation was found");
    let method = message("method not allowed");
    let elsewhere = message("Not Found");
    let (runs, hosts) = (format!("{BASE}/runs"), format!("{BASE}/run_hosts"));
    for (request, expected) in [
        ("GET /internal", &nothing),
        ("GET /internal/", &nothing),
        ("POST /internal/v2/dispatch/", &nothing),
        ("POST /internal/v3/dispatch", &nothing),
        ("GET /internal/version/", &nothing),
        ("GET /Internal/version", &elsewhere),
        ("GET /internalversion", &elsewhere),
        ("GET /internal/dispatch", &method),
        ("PUT /internal/v2/dispatch", &method),
        ("OPTIONS /internal/v2/dispatch", &method),
        ("DELETE /internal/v2/cancel", &method),
        ("PATCH /internal/v2/recipients/status", &method),
        ("GET /internal/v2/connection_status", &method),
        ("POST /internal/version", &method),
        ("POST /internal/v2/run_hosts", &method),
        ("GET /", &elsewhere),
        ("OPTIONS *", &elsewhere),
        ("GET /api", &elsewhere),
        ("GET /api/playbook-dispatcherx", &elsewhere),
        ("POST /ready", &elsewhere),
    ] {
        let answer = send(&service, request, "", "").await;
        assert_eq!((answer.status, &answer.body), (404, expected), "{request}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{request}");
    }
    for (request, expected) in [
        (format!("POST {runs}"), &method),
        (format!("DELETE {hosts}"), &method),
        (format!("OPTIONS {runs}"), &method),
        (format!("GET {runs}/"), &nothing),
        (format!("GET {BASE}"), &nothing),
        ("GET /api/playbook-dispatcher/v2/runs".to_owned(), &nothing),
        ("GET /api/playbook-dispatcher".to_owned(), &nothing),
    ] {
        let answer = send(&service, &request, &user(), "").await;
        assert_eq!((answer.status, &answer.body), (404, expected), "{request}");
    }
    for path in [runs.as_str(), &hosts, "/internal/version", "/internal/v2/run_hosts"] {
        let answer = send(&service, &format!("HEAD {path}"), &user(), "").await;
        assert_eq!((answer.status, answer.body.as_str()), (404, ""), "{path}");
    }
    let answer = send(&service, &format!("HEAD {runs}"), "", "").await;
    assert_eq!(answer.status, 400, "who is asking comes first");
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_anything_else() {
    let service = trusting().await;
    let id = "x-rh-insights-request-id: mine\r\n";
    for request in [
        "POST /internal/dispatch",
        "POST /internal/v2/connection_status",
        "GET /internal/v2/run_hosts",
        "GET /internal/version",
        "PUT /internal/version",
        "POST /internal/nothing",
        "POST /nothing",
        "GET /api/playbook-dispatcher/v1/runs",
        "POST /api/playbook-dispatcher/v1/runs",
        "GET /api/playbook-dispatcher/v1/nothing",
    ] {
        let answer = send(&service, request, &format!("{id}{LARGE}"), &" ".repeat(512_001)).await;
        assert_eq!((answer.status, answer.body.as_str()), (413, TOO_LARGE), "{request}");
        assert_eq!(answer.header("content-type"), Some("application/json"), "{request}");
        assert_eq!(answer.header("x-rh-insights-request-id"), Some("mine"), "{request}");
    }
    let small = [("HTTP_MAX_BODY_SIZE", "1KB")];
    let service = InProcess::start_with(&small, |stores| stores).await.unwrap();
    let (path, _) = &with_key()[0];
    assert_eq!(post(&service, path, "", &" ".repeat(1_001)).await.status, 413);
    assert_eq!(post(&service, path, "", &" ".repeat(1_000)).await.status, 400);
}

#[tokio::test]
async fn every_answer_has_both_ids_and_none_what_only_browsers_want() {
    let service = trusting().await;
    let own = "x-rh-insights-request-id: an id/of mine-000007\r\norigin: https://example.com\r\n\
               accept-encoding: gzip, br\r\naccess-control-request-method: GET\r\n";
    let internal = "x-rh-playbook-dispatcher-internal-request-id";
    let mut seen = std::collections::BTreeSet::new();
    for (request, status) in [
        ("GET /internal/version".to_owned(), 200),
        ("OPTIONS /internal/version".to_owned(), 404),
        ("GET /nothing".to_owned(), 404),
        ("POST /internal/v2/cancel".to_owned(), 401),
        (format!("GET {BASE}/runs?limit=0"), 400),
        ("GET /health/live".to_owned(), 200),
    ] {
        let answer = send(&service, &request, own, "").await;
        assert_eq!(answer.status, status, "{request}");
        let echoed = answer.header("x-rh-insights-request-id");
        assert_eq!(echoed, Some("an id/of mine-000007"), "{request}");
        let fresh = Uuid::parse_str(answer.header(internal).unwrap()).unwrap();
        assert_eq!(fresh.get_version_num(), 4);
        assert!(seen.insert(fresh), "{request}");
        assert!(!answer.head.to_lowercase().contains("access-control"), "{}", answer.head);
        assert_eq!(answer.header("content-encoding"), None, "{request}");
        // An empty one is none.
        let answer = send(&service, &request, "x-rh-insights-request-id: \r\n", "").await;
        let made = answer.header("x-rh-insights-request-id").unwrap();
        let (host, rest) = made.split_once('/').unwrap();
        let (process, number) = rest.split_once('-').unwrap();
        assert!(!host.is_empty() && process.len() == 10, "{made}");
        assert!(process.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{made}");
        assert_eq!(number, format!("{:06}", seen.len()), "they are counted from 1");
    }
}

#[tokio::test]
async fn the_version_is_a_bare_text_for_anybody() {
    let own = [("BUILD_COMMIT", "0a1b2c<&>")];
    let service = InProcess::start_with(&own, |stores| stores).await.unwrap();
    for headers in ["", "authorization: PSK unknown\r\n", "x-rh-identity: %\r\n"] {
        let answer = send(&service, "GET /internal/version", headers, "").await;
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (200, "\"0a1b2c\\u003c\\u0026\\u003e\"\n")
        );
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
}
