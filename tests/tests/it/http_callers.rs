//! Whose word is believed: the identity header by peer, host names, workers' keys; and what holds
//! connections open.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use dispatcher_api::{
    config::values::ListenAddress,
    http::{listen::Listener, router::router, server::Server},
};
use dispatcher_tests::{
    process::BASE,
    raw::{self, Answer},
    service::{InProcess, new_run},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
};

fn identity(json: &str) -> String {
    format!("x-rh-identity: {}\r\n", BASE64_STANDARD.encode(json))
}

fn runs(headers: &str) -> String {
    format!("GET {BASE}/runs HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n")
}

async fn ask(service: &InProcess, headers: &str) -> Answer {
    raw::send(&service.url, runs(headers).as_bytes()).await.unwrap()
}

const USER: &str = r#"{"identity":{"type":"User","org_id":"org-1","user":{"user_id":"u1"}}}"#;

#[tokio::test]
async fn an_identity_header_is_dropped_unless_its_peer_is_trusted() {
    let untrusting = InProcess::start().await.unwrap();
    let answer = ask(&untrusting, &identity(USER)).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.body, "Bad Request: missing x-rh-identity header\n");

    let elsewhere = [("IDENTITY_HEADER_FROM", "10.0.0.0/8,unix")];
    let elsewhere = InProcess::start_with(&elsewhere, |stores| stores).await.unwrap();
    assert_eq!(ask(&elsewhere, &identity(USER)).await.status, 400);

    let trusting = [("IDENTITY_HEADER_FROM", "loopback")];
    let trusting = InProcess::start_with(&trusting, |stores| stores).await.unwrap();
    assert_eq!(ask(&trusting, &identity(USER)).await.status, 200);
    let system = r#"{"identity":{"type":"System","org_id":"org-1"}}"#;
    let answer = ask(&trusting, &identity(system)).await;
    assert_eq!(answer.status, 403);
    assert_eq!(answer.body, "unauthorized principal type: system\n");
    let answer = ask(&trusting, "x-rh-identity: %\r\n").await;
    assert_eq!(answer.body, "Bad Request: unable to b64 decode x-rh-identity header\n");
    let answer = ask(&trusting, &identity(r#"{"identity":{"type":"User"}}"#)).await;
    let missing = "Bad Request: x-rh-identity header has an invalid or missing org_id\n";
    assert_eq!(answer.body, missing);
}

#[tokio::test]
async fn what_a_gateway_passes_on_beside_an_identity_does_not_matter() {
    let basic = format!("authorization: Basic dTpw\r\n{}", identity(USER));
    let trusting = [("IDENTITY_HEADER_FROM", "loopback")];
    let trusting = InProcess::start_with(&trusting, |stores| stores).await.unwrap();
    assert_eq!(ask(&trusting, &basic).await.status, 200);
    let untrusting = InProcess::start().await.unwrap();
    assert_eq!(ask(&untrusting, &basic).await.status, 401, "the identity was dropped");
}

#[tokio::test]
async fn a_unix_socket_is_a_peer_of_its_own() {
    let variables = [("IDENTITY_HEADER_FROM", "unix")];
    let service = InProcess::start_with(&variables, |stores| stores).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.sock");
    let listener = Listener::bind(&ListenAddress::Unix(path.clone())).unwrap();
    let server = Server::start(vec![listener], router(&service.app), &service.app.settings.http);
    let stream = UnixStream::connect(&path).await.unwrap();
    let answer = raw::exchange(stream, runs(&identity(USER)).as_bytes()).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(ask(&service, &identity(USER)).await.status, 400, "TCP is not trusted");
    assert!(server.stop(std::time::Duration::from_secs(30)).await);
    assert!(!path.exists());
}

#[tokio::test]
async fn standalone_answers_to_loopback_names_only() {
    let service = InProcess::start().await.unwrap();
    for (host, status) in [
        ("localhost", 200),
        ("LOCALHOST:8000", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:8000", 200),
        ("attacker.example", 421),
        ("localhost.attacker.example", 421),
        ("127.0.0.1.attacker.example", 421),
        ("", 421),
    ] {
        let request =
            format!("GET /health/live HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        let answer = raw::send(&service.url, request.as_bytes()).await.unwrap();
        assert_eq!(answer.status, status, "{host}");
    }
}

#[tokio::test]
async fn workers_are_known_by_their_own_key_only() {
    let service = InProcess::start().await.unwrap();
    let worker = service.worker().await.unwrap();
    let id = worker.recipient.simple();
    let path = format!("{}{BASE}/execution/claim", service.url);
    for (authorization, code) in [
        ("PSK testkey".to_owned(), "worker_key_required"),
        (format!("Bearer dwk_{id}_short"), "worker_key_required"),
        (format!("Bearer dwk_{id}_{}", "x".repeat(32)), "worker_key_unknown"),
        (format!("Bearer dwk_{}_{}", "0".repeat(32), "s".repeat(32)), "worker_key_unknown"),
    ] {
        let client = reqwest::Client::new();
        let request = client.post(&path).header("authorization", &authorization);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 401, "{authorization}");
        assert!(answer.text().await.unwrap().contains(code), "{authorization}");
    }
    let client = reqwest::Client::new();
    let own = format!("Bearer dwk_{id}_{}", "s".repeat(32));
    let answer = client.post(&path).header("authorization", own).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn a_request_that_does_not_arrive_is_given_up() {
    let variables = [("HTTP_HEADER_TIMEOUT", "1")];
    let service = InProcess::start_with(&variables, |stores| stores).await.unwrap();
    let address = service.url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /health/live HTTP/1.1\r\nhost: localho").await.unwrap();
    let mut rest = Vec::new();
    let closed = stream.read_to_end(&mut rest);
    tokio::time::timeout(std::time::Duration::from_secs(60), closed).await.unwrap().unwrap();

    let variables = [("HTTP_REQUEST_TIMEOUT", "1")];
    let service = InProcess::start_with(&variables, |stores| stores).await.unwrap();
    let request = "POST /internal/v2/dispatch HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
                   content-type: application/json\r\ncontent-length: 10\r\n\r\n[";
    let answer = raw::send(&service.url, request.as_bytes()).await.unwrap();
    assert_eq!(answer.status, 503, "half a body: {}", answer.body);
}

#[tokio::test]
async fn heads_and_connections_have_limits() {
    let variables = [("HTTP_MAX_CONNECTIONS", "1")];
    let service = InProcess::start_with(&variables, |stores| stores).await.unwrap();
    let huge = format!("x-filler: {}\r\n", "x".repeat(200_000));
    let answer = ask(&service, &huge).await;
    assert_eq!(answer.status, 431);

    let address = service.url.strip_prefix("http://").unwrap();
    let mut first = TcpStream::connect(address).await.unwrap();
    first.write_all(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let mut some = [0; 15];
    first.read_exact(&mut some).await.unwrap();
    let mut second = TcpStream::connect(address).await.unwrap();
    let request = b"GET /health/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    second.write_all(request).await.unwrap();
    let waiting = second.read_exact(&mut some);
    let waited = tokio::time::timeout(std::time::Duration::from_millis(300), waiting).await;
    assert!(waited.is_err(), "the second connection waits while the first is open");
    drop(first);
    second.read_exact(&mut some).await.unwrap();
    assert_eq!(&some, b"HTTP/1.1 200 OK");
}

#[tokio::test]
async fn a_stream_that_follows_a_run_ends_with_the_process() {
    let service = InProcess::start().await.unwrap();
    let worker = service.worker().await.unwrap();
    let run = service.create(new_run(worker.recipient)).await.unwrap();
    let path = format!("{BASE}/runs/{run}/log?follow=true");
    let answer = service.request(reqwest::Method::GET, &path).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let following = tokio::spawn(answer.bytes());
    service.app.shutdown.cancel();
    let stopped = service.server.stop(std::time::Duration::from_secs(30)).await;
    assert!(stopped, "the stream held the end up");
    following.await.unwrap().unwrap();
}
