//! An instance that ends as the service does, and the scale, lose no request.

use dispatcher_haproxy::leaving::Serving;

use crate::{
    balancer::{Balancer, free_port, until},
    client::once,
    instance::Instance,
    load::Load,
};

#[tokio::test]
async fn an_instance_that_drains_loses_no_request() {
    let mut balancer = Balancer::prepared("");
    let mut instances = [0, 1].map(|one| Instance::on_socket(balancer.socket(one)));
    balancer.run().await;
    balancer.until_up(2).await;
    let load = Load::on(balancer.port);
    for index in [0, 1, 0] {
        load.goes_on(100).await;
        instances[index].drain();
        balancer.until_up(1).await;
        instances[index].end().await;
        let name = format!("dispatcher-api-{index}");
        let servers = balancer.servers().await;
        let drained = servers.iter().find(|one| one.name == name).unwrap();
        assert!(!drained.status.takes_requests());
        load.goes_on(100).await;
        instances[index] = Instance::on_socket(balancer.socket(index));
        balancer.until_up(2).await;
    }
    let (whole, failed) = load.end().await;
    assert!(whole > 500 && failed == 0, "{whole} answered, {failed} failed");
}

#[tokio::test]
async fn what_haproxy_saw_of_a_draining_instance_is_read() {
    let mut balancer = Balancer::prepared("dispatcher_api_container_scale: 1\n");
    let instance = Instance::on_socket(balancer.socket(0));
    balancer.run().await;
    balancer.until_up(1).await;
    let up = balancer.servers().await.remove(0);
    assert_eq!((up.check_status.as_str(), up.check_code, up.weight), ("L7OK", Some(200), 1));
    instance.drain();
    balancer.until_up(0).await;
    let down = balancer.servers().await.remove(0);
    assert_eq!((down.check_status.as_str(), down.check_code), ("L7STS", Some(503)));
    assert!(down.check_text.contains("503") || down.check_text.contains("status"), "{down:?}");
    let answer = once(balancer.port, "GET", "/x", "").await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains(r#""error_code":"no_instance""#), "{}", answer.body);
    assert_eq!(answer.header("retry-after").as_deref(), Some("2"));
}

#[tokio::test]
async fn scaling_up_and_down_by_the_file_loses_no_request() {
    let mut balancer = Balancer::prepared("");
    let mut instances: Vec<Instance> =
        (0..2).map(|one| Instance::on_socket(balancer.socket(one))).collect();
    balancer.run().await;
    balancer.until_up(2).await;
    let load = Load::on(balancer.port);
    for scale in [5, 1, 4] {
        load.goes_on(100).await;
        // Up: the instances, then the file. Down: the file, then the instances.
        for one in instances.len()..scale {
            instances.push(Instance::on_socket(balancer.socket(one)));
        }
        balancer.render(&format!("dispatcher_api_container_scale: {scale}\n"));
        balancer.files().check().await.unwrap();
        // As the product does it: who goes away is let go of before the reload.
        let names: Vec<_> =
            (scale..instances.len()).map(|one| format!("dispatcher-api-{one}")).collect();
        Serving::new(balancer.path("master.sock")).let_go("dispatcher_api", &names).await.unwrap();
        balancer.reload().await.unwrap();
        for gone in instances.drain(scale..) {
            gone.drain();
            gone.end().await;
        }
        balancer.until_up(scale).await;
    }
    let (whole, failed) = load.end().await;
    assert!(whole > 300 && failed == 0, "{whole} answered, {failed} failed");
}

#[tokio::test]
async fn scale_0_is_a_clear_answer() {
    let balancer = Balancer::start("dispatcher_api_container_scale: 0\n").await;
    assert!(balancer.servers().await.is_empty());
    let answer = once(balancer.port, "POST", "/x", "").await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains(r#""error_code":"scaled_to_zero""#), "{}", answer.body);
    assert_eq!(answer.header("retry-after").as_deref(), Some("30"));
}

#[tokio::test]
async fn instances_are_reached_by_tcp_where_that_is_said() {
    let first = loop {
        let first = free_port();
        if std::net::TcpListener::bind(("127.0.0.1", first + 1)).is_ok() {
            break first;
        }
    };
    let variables = format!("dispatcher_api_upstream: tcp\ndispatcher_api_publish_port: {first}\n");
    let mut balancer = Balancer::prepared(&variables);
    let instances = [Instance::on_port(first).await, Instance::on_port(first + 1).await];
    balancer.run().await;
    balancer.until_up(2).await;
    until("asked both instances", async || {
        assert_eq!(once(balancer.port, "POST", "/x", "").await.status, 200);
        instances.iter().all(|one| one.requests() > 0)
    })
    .await;
    let addresses: Vec<_> = balancer.servers().await.into_iter().map(|one| one.address).collect();
    assert_eq!(addresses, [format!("127.0.0.1:{first}"), format!("127.0.0.1:{}", first + 1)]);
}
