//! What waits or streams on purpose is not cut; what hangs is. Timeouts of seconds stand for those
//! of minutes.

use std::time::Duration;

use crate::{
    balancer::Balancer,
    client::once,
    instance::{Instance, Reply},
};

const SHORT: &str = "dispatcher_haproxy_timeout_server: 5
dispatcher_haproxy_timeout_client: 5
dispatcher_haproxy_timeout_stream: 60
dispatcher_api_container_scale: 1
";

async fn answered(reply: Reply, method: &str, path: &str, headers: &str) -> (u16, String) {
    let mut balancer = Balancer::prepared(SHORT);
    let instance = Instance::on_socket(balancer.socket(0));
    balancer.run().await;
    balancer.until_up(1).await;
    instance.replies(reply);
    let answer = once(balancer.port, method, path, headers).await;
    assert_eq!(instance.requests(), 1);
    (answer.status, answer.body)
}

#[tokio::test]
async fn a_stream_with_signs_of_life_lasts_for_many_timeouts() {
    let stream = Reply::Stream { pieces: 30, apart: Duration::from_millis(400) };
    // Even where nothing says that it is one.
    let (status, body) = answered(stream, "GET", "/x", "").await;
    assert_eq!((status, body.len()), (200, 30 * 3));
}

#[tokio::test]
async fn events_logs_and_waiting_workers_may_be_silent_for_longer() {
    let silent = Reply::Stream { pieces: 1, apart: Duration::from_secs(7) };
    let late = Reply::Late(Duration::from_secs(7));
    let wait = "/api/playbook-dispatcher/v1/execution/wait";
    let log = "/api/playbook-dispatcher/v1/runs/1/log?follow=true";
    let events = "accept: text/event-stream\r\n";
    let cases = [
        (late, "POST", wait, ""),
        (silent.clone(), "GET", log, ""),
        (silent, "GET", "/events", events),
    ];
    let [first, second, third] = cases.map(|(reply, method, path, headers)| async move {
        assert_eq!(answered(reply, method, path, headers).await.0, 200, "{path}");
    });
    tokio::join!(first, second, third);
}

#[tokio::test]
async fn what_hangs_otherwise_is_ended() {
    let late = Reply::Late(Duration::from_secs(30));
    assert_eq!(answered(late, "POST", "/x", "").await.0, 504);
}
