//! Clients that are slow, greedy or many.

use std::time::{Duration, Instant};

use crate::{
    balancer::{Balancer, until},
    client::{Connection, once, request},
    instance::Instance,
};

async fn one(variables: &str) -> (Balancer, Instance) {
    let mut balancer =
        Balancer::prepared(&format!("{variables}dispatcher_api_container_scale: 1\n"));
    let instance = Instance::on_socket(balancer.socket(0));
    balancer.run().await;
    balancer.until_up(1).await;
    (balancer, instance)
}

#[tokio::test]
async fn who_sends_a_head_byte_by_byte_is_cut_off() {
    let (balancer, instance) = one("dispatcher_haproxy_timeout_http_request: 1\n").await;
    let started = Instant::now();
    let mut connection = Connection::to(balancer.port).await.unwrap();
    connection.send("GET /x HTTP/1.1\r\n").await.unwrap();
    while connection.send("a").await.is_some() && started.elapsed() < Duration::from_secs(10) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let took = started.elapsed();
    assert!(took > Duration::from_millis(900) && took < Duration::from_secs(10), "{took:?}");
    assert_eq!(connection.answer().await.map(|answer| answer.status), Some(408));
    assert_eq!(instance.requests(), 0);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused_and_a_large_one_is_not() {
    let (balancer, _instance) = one("").await;
    let of = |bytes: usize| format!("authorization: Bearer {}\r\n", "x".repeat(bytes));
    assert_eq!(once(balancer.port, "GET", "/x", &of(28_000)).await.status, 200);
    let status = once(balancer.port, "GET", "/x", &of(40_000)).await.status;
    assert!([400, 431].contains(&status), "{status}");
    let many: String = (0..120).map(|one| format!("x-{one}: y\r\n")).collect();
    let status = once(balancer.port, "GET", "/x", &many).await.status;
    assert!([400, 431].contains(&status), "{status}");
}

#[tokio::test]
async fn one_address_may_not_have_all_connections() {
    let (balancer, _instance) = one("dispatcher_haproxy_source_maxconn: 5\n").await;
    let mut kept = Vec::new();
    for _ in 0..5 {
        let mut connection = Connection::to(balancer.port).await.unwrap();
        assert_eq!(connection.request(&request("GET", "/x", "")).await.unwrap().status, 200);
        kept.push(connection);
    }
    assert!(!is_let_in(balancer.port).await);
    kept.pop();
    until("let the next one in", async || is_let_in(balancer.port).await).await;
}

/// One that is refused may learn it when it connects already.
async fn is_let_in(port: u16) -> bool {
    let Ok(mut connection) = Connection::to(port).await else { return false };
    connection.request(&request("GET", "/x", "")).await.is_some()
}

#[tokio::test]
async fn each_caller_has_its_own_rate() {
    let limits = "dispatcher_rate_limit_requests: 5\ndispatcher_rate_limit_seconds: 30\n";
    let (balancer, _instance) = one(limits).await;
    for caller in ["", "authorization: Bearer one\r\n", "authorization: Bearer two\r\n"] {
        for _ in 0..5 {
            assert_eq!(once(balancer.port, "GET", "/x", caller).await.status, 200, "{caller}");
        }
        let answer = once(balancer.port, "POST", "/x", caller).await;
        assert_eq!(answer.status, 429, "{caller}");
        assert!(answer.body.contains(r#""error_code":"rate_limited""#), "{}", answer.body);
        assert_eq!(answer.header("retry-after").as_deref(), Some("30"));
    }
}
