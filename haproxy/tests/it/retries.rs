//! What is sent again, and what never.

use std::time::Duration;

use crate::{
    balancer::Balancer,
    client::once,
    instance::{Instance, Reply},
};

/// An instance that is gone counts as up for long, so that requests are sent to it.
const PATIENT: &str = "dispatcher_haproxy_check_fall: 40\n";
/// How long HAProxy waits for an answer, and one that comes after that.
const HANGING: &str = "dispatcher_haproxy_timeout_server: 4\n";
const LATE: Duration = Duration::from_secs(30);

async fn two(variables: &str) -> (Balancer, [Instance; 2]) {
    let balancer = Balancer::prepared(variables);
    let instances = [0, 1].map(|one| Instance::on_socket(balancer.socket(one)));
    let mut balancer = balancer;
    balancer.run().await;
    balancer.until_up(2).await;
    (balancer, instances)
}

fn sent(instances: &[Instance]) -> usize {
    instances.iter().map(Instance::requests).sum()
}

#[tokio::test]
async fn a_post_is_sent_once_whatever_becomes_of_it() {
    let (balancer, instances) = two(HANGING).await;
    let cases = [(Reply::Nothing, 502), (Reply::Status(502), 502), (Reply::Status(503), 503)];
    for (before, (reply, status)) in cases.into_iter().enumerate() {
        instances.iter().for_each(|one| one.replies(reply.clone()));
        for (index, method) in ["POST", "PUT", "DELETE", "PATCH"].into_iter().enumerate() {
            let answer = once(balancer.port, method, "/x", "").await;
            assert_eq!(answer.status, status, "{method} {reply:?}");
            assert_eq!(sent(&instances), before * 4 + index + 1, "{method} {reply:?}");
        }
    }
    let before = sent(&instances);
    instances.iter().for_each(|one| one.replies(Reply::Late(LATE)));
    assert_eq!(once(balancer.port, "POST", "/x", "").await.status, 504);
    assert_eq!(sent(&instances), before + 1);
}

#[tokio::test]
async fn what_haproxy_says_itself_is_an_error_of_the_service() {
    let (balancer, instances) = two(HANGING).await;
    let cases = [(Reply::Nothing, 502, "bad_gateway"), (Reply::Late(LATE), 504, "gateway_timeout")];
    for (reply, status, code) in cases {
        instances.iter().for_each(|one| one.replies(reply.clone()));
        let id = "x-request-id: a\"b\\c\r\n";
        let answer = once(balancer.port, "POST", "/x", id).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("content-type").as_deref(), Some("application/json"));
        assert_eq!(answer.header("x-rh-insights-request-id").as_deref(), Some("a\"b\\c"));
        assert!(answer.body.contains(&format!(r#""error_code":"{code}""#)), "{}", answer.body);
        assert!(answer.body.contains(r#""request_id":"a\"b\\c"}"#), "{}", answer.body);
    }
}

#[tokio::test]
async fn a_get_is_sent_again_to_another_instance() {
    let (balancer, [bad, good]) = two(HANGING).await;
    for reply in [Reply::Nothing, Reply::Status(502), Reply::Status(503), Reply::Late(LATE)] {
        bad.replies(reply.clone());
        let before = bad.requests();
        while bad.requests() == before {
            for method in ["GET", "HEAD"] {
                // The answer to a HEAD has a length and no body: only its status is read.
                let mut connection = crate::client::Connection::to(balancer.port).await.unwrap();
                let text = crate::client::request(method, "/x", "connection: close\r\n");
                let answer = match method {
                    "GET" => connection.request(&text).await.unwrap().status,
                    _ => connection.status_of_head(&text).await.unwrap(),
                };
                assert_eq!(answer, 200, "{method} {reply:?}");
            }
        }
    }
    assert!(good.requests() > 0);
}

#[tokio::test]
async fn a_refused_connection_is_tried_elsewhere_for_every_method() {
    let mut balancer = Balancer::prepared(&format!("{PATIENT}dispatcher_api_container_scale: 4\n"));
    let instances: Vec<Instance> =
        (0..4).map(|one| Instance::on_socket(balancer.socket(one))).collect();
    balancer.run().await;
    balancer.until_up(4).await;
    let (gone, stay) = instances.split_at(2);
    for one in gone {
        one.end().await;
    }
    for _ in 0..5 {
        for method in ["GET", "POST", "PUT", "DELETE"] {
            assert_eq!(once(balancer.port, method, "/x", "").await.status, 200, "{method}");
        }
    }
    assert_eq!((sent(gone), sent(stay)), (0, 20));
}
