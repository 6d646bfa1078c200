//! Reloads: they lose nothing, say what became of them, and end what they replaced.

use std::time::Duration;

use dispatcher_haproxy::{
    leaving::Serving,
    reload::{Reload, ReloadError, Way},
    stats::Status,
};

use crate::{
    balancer::{Balancer, PATIENCE, program, until},
    client::{Connection, request},
    instance::{Instance, Reply},
    load::Load,
};

async fn two(variables: &str) -> (Balancer, [Instance; 2]) {
    let mut balancer = Balancer::prepared(variables);
    let instances = [0, 1].map(|one| Instance::on_socket(balancer.socket(one)));
    balancer.run().await;
    balancer.until_up(2).await;
    (balancer, instances)
}

#[tokio::test]
async fn ten_reloads_under_load_fail_nothing() {
    let (balancer, _instances) = two("").await;
    let load = Load::on(balancer.port);
    let mut pid = balancer.stats().info().await.unwrap().pid;
    for _ in 0..10 {
        load.goes_on(40).await;
        let reloaded = balancer.reload().await.unwrap();
        assert_ne!(reloaded.pid, pid);
        pid = balancer.stats().info().await.unwrap().pid;
        assert_eq!(reloaded.pid, pid);
    }
    let (whole, failed) = load.end().await;
    assert!(whole > 400 && failed == 0, "{whole} answered, {failed} failed");
}

#[tokio::test]
async fn a_reload_that_is_refused_says_so_and_changes_nothing() {
    let (balancer, _instances) = two("").await;
    let before = balancer.stats().info().await.unwrap().pid;
    let foreign = balancer.path("conf.d/20_other.cfg");
    std::fs::write(&foreign, "frontend other\n    bogus\n").unwrap();
    for _ in 0..2 {
        let error = balancer.reload().await.unwrap_err();
        assert!(matches!(error, ReloadError::Refused { .. }), "{error}");
        assert_eq!(balancer.stats().info().await.unwrap().pid, before);
    }
    std::fs::remove_file(foreign).unwrap();
    assert_ne!(balancer.reload().await.unwrap().pid, before);
}

#[tokio::test]
async fn a_reload_by_command_is_seen_at_the_socket() {
    let (balancer, _instances) = two("").await;
    let before = balancer.stats().info().await.unwrap().pid;
    let reload = |script: String, within: Duration| {
        let way = Way::Command(program("sh"), vec!["-c".to_owned(), script]);
        let stats = balancer.path("stats.sock");
        Reload { way, stats, within }
    };
    let master = balancer.processes().await.master;
    let reloaded = reload(format!("kill -USR2 {master}"), PATIENCE).run().await.unwrap();
    assert_ne!(reloaded.pid, before);
    let failing = "echo no such unit >&2; exit 5".to_owned();
    let error = reload(failing, PATIENCE).run().await.unwrap_err();
    assert!(error.to_string().contains("no such unit"), "{error}");
    let error = reload("true".to_owned(), Duration::from_secs(5)).run().await.unwrap_err();
    assert!(matches!(error, ReloadError::NotSeen { .. }), "{error}");
}

#[tokio::test]
async fn a_socket_that_is_not_there_is_no_reload() {
    let way = Way::Master("/tmp/no/master.sock".into());
    let stats = "/tmp/no/stats.sock".into();
    let within = Duration::from_secs(60);
    let error = Reload { way, stats, within }.run().await.unwrap_err();
    assert!(error.to_string().contains("/tmp/no/master.sock"), "{error}");
}

#[tokio::test]
async fn a_follower_survives_a_reload_until_the_hard_stop() {
    let (balancer, instances) = two("dispatcher_haproxy_hard_stop_after: 10\n").await;
    let apart = Duration::from_millis(200);
    instances.iter().for_each(|one| one.replies(Reply::Stream { pieces: 5, apart }));
    let mut short = Connection::to(balancer.port).await.unwrap();
    short.send(&request("GET", "/x", "")).await.unwrap();
    until("reached an instance", async || instances.iter().any(|one| one.requests() == 1)).await;
    instances.iter().for_each(|one| one.replies(Reply::Stream { pieces: 1000, apart }));
    let mut long = Connection::to(balancer.port).await.unwrap();
    long.send(&request("GET", "/x", "")).await.unwrap();
    let requests = || instances.iter().map(Instance::requests).sum::<usize>();
    until("reached an instance", async || requests() == 2).await;
    balancer.reload().await.unwrap();
    assert_eq!(short.answer().await.unwrap().body.len(), 15);
    assert!(long.answer().await.is_none());
    until("ended the old process", async || balancer.processes().await.old_workers.is_empty())
        .await;
}

#[tokio::test]
async fn what_was_replaced_lets_go_of_instances_that_end() {
    const MANY: usize = 8;
    let mut balancer = Balancer::prepared(&format!("dispatcher_api_container_scale: {MANY}\n"));
    let instances: Vec<_> =
        (0..MANY).map(|one| Instance::on_socket(balancer.socket(one))).collect();
    balancer.run().await;
    balancer.until_up(MANY).await;
    let mut kept = Vec::new();
    for _ in 0..MANY {
        let mut connection = Connection::to(balancer.port).await.unwrap();
        assert_eq!(connection.request(&request("GET", "/x", "")).await.unwrap().status, 200);
        kept.push(connection);
    }
    balancer.render("dispatcher_api_container_scale: 1\n");
    let gone: Vec<String> = (1..=MANY).map(|one| format!("dispatcher-api-{one}")).collect();
    let serving = Serving::new(balancer.path("master.sock"));
    serving.let_go("dispatcher_api", &gone).await.unwrap();
    serving.take_back("dispatcher_api", &gone[..1]).await.unwrap();
    let states = balancer.servers().await.into_iter().map(|one| one.status);
    let resting = states.filter(|status| *status == Status::Maintenance).count();
    assert_eq!(resting, MANY - 2);
    serving.let_go("dispatcher_api", &gone[..1]).await.unwrap();
    balancer.reload().await.unwrap();
    for instance in &instances[1..] {
        instance.end().await;
    }
    // The process of before answers each of them once more.
    assert_eq!(balancer.processes().await.old_workers.len(), 1);
    for connection in &mut kept {
        let answer = connection.request(&request("POST", "/x", "")).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    assert_eq!(balancer.servers().await.len(), 1);
}
