//! The life of one `serve` process, as its supervisor sees it: signs to systemd, and the end after
//! so many requests.

use std::time::Duration;

use dispatcher_tests::{
    agent_home::AgentHome,
    home::Home,
    ports,
    postgres::PrivatePostgres,
    process::{BASE, Service},
    supervisor::Supervisor,
    tracker::Shared,
};
use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Within which signs of life are wanted.
const WATCHDOG: Duration = Duration::from_millis(600);

/// Variables as processes of tests are given them.
fn borrowed<'a>(variables: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    variables.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

fn signal(service: &Service, signal: Signal) {
    let pid = i32::try_from(service.pid().unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// A process that is stopped gives no sign.
fn says_nothing(supervisor: &Supervisor, pid: u32) {
    supervisor.until_stopped(pid).unwrap();
    let said = supervisor.hears(Duration::from_secs(1));
    assert!(said.is_empty(), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_hears_of_the_start_of_life_and_of_the_end() {
    let home = Home::postgres().await.unwrap();
    let supervisor = Supervisor::beside(home.path()).unwrap();
    let variables = supervisor.variables(WATCHDOG);
    let mut service = home.start_with(&borrowed(&variables)).await.unwrap();
    supervisor.hears_of("READY=1").unwrap();
    supervisor.hears_of("WATCHDOG=1").unwrap();
    supervisor.hears_of("WATCHDOG=1").unwrap();
    signal(&service, Signal::STOP);
    says_nothing(&supervisor, service.pid().unwrap());
    signal(&service, Signal::CONT);
    supervisor.hears_of("WATCHDOG=1").unwrap();
    let stopping = std::thread::spawn(move || supervisor.hears_of("STOPPING=1").unwrap());
    service.stop().await.unwrap();
    stopping.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_that_wants_no_signs_gets_none() {
    let home = Home::postgres().await.unwrap();
    let supervisor = Supervisor::beside(home.path()).unwrap();
    let variables = supervisor.variables(WATCHDOG);
    let _service = home.start_with(&borrowed(&variables[..1])).await.unwrap();
    supervisor.hears_of("READY=1").unwrap();
    let said = supervisor.hears(Duration::from_millis(500));
    assert!(!said.iter().any(|line| line.starts_with("WATCHDOG")), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_waits_for_its_database_it_lives_and_says_so_and_is_not_ready() {
    let home = tempfile::tempdir().unwrap();
    let port = ports::free().unwrap();
    let url = format!("postgres://postgres@localhost:{port}/postgres");
    let supervisor = Supervisor::beside(home.path()).unwrap();
    let variables = supervisor.variables(WATCHDOG);
    let meanwhile = tokio::task::spawn_blocking(move || {
        let mut said = Vec::new();
        for what in ["STATUS=waiting for the database", "EXTEND_TIMEOUT_USEC="] {
            said.extend(supervisor.hears_of(what).unwrap());
        }
        for _ in 0..3 {
            said.extend(supervisor.hears_of("WATCHDOG=1").unwrap());
        }
        assert!(!said.iter().any(|line| line == "READY=1"), "{said:?}");
        let options = format!("-c listen_addresses=localhost -c port={port}");
        let server = PrivatePostgres::start_with(&options, &[]).unwrap();
        let until_ready = supervisor.hears_of("READY=1").unwrap();
        (server, until_ready)
    });
    let variables = borrowed(&variables);
    let service = Service::serve(home.path(), &url, &variables);
    let (service, meanwhile) = tokio::join!(service, meanwhile);
    let (_server, until_ready) = meanwhile.unwrap();
    assert!(until_ready.iter().any(|line| line == "STATUS=serving"), "{until_ready:?}");
    service.unwrap().stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_hears_of_the_trackers_life() {
    let shared = Shared::start().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::beside(directory.path()).unwrap();
    let variables = supervisor.variables(WATCHDOG);
    let tracker = shared.tracker(&borrowed(&variables), &[]).unwrap();
    tracker.guarded.start().unwrap();
    supervisor.hears_of("READY=1").unwrap();
    supervisor.hears_of("STATUS=active, epoch").unwrap();
    supervisor.hears_of("WATCHDOG=1").unwrap();
    supervisor.hears_of("WATCHDOG=1").unwrap();
    tracker.guarded.pause().unwrap();
    says_nothing(&supervisor, tracker.guarded.pid().unwrap().as_raw_nonzero().get().unsigned_abs());
    tracker.guarded.resume().unwrap();
    supervisor.hears_of("WATCHDOG=1").unwrap();
    // What it needs goes away: it lives on, and says what is wrong.
    shared.redis.process().kill().unwrap();
    while !supervisor.hears_of("STATUS=active").unwrap().iter().any(|line| line.contains("redis: "))
    {
    }
    supervisor.hears_of("WATCHDOG=1").unwrap();
    assert_eq!(tracker.guarded.stop().unwrap(), 0);
    supervisor.hears_of("STOPPING=1").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_hears_of_a_workers_life() {
    let home = Home::standalone().unwrap();
    let service = home.start().await.unwrap();
    let state = home.path().join("agent");
    let agent = AgentHome::register(&service, &state, "worker").await.unwrap();
    let supervisor = Supervisor::beside(home.path()).unwrap();
    let variables = supervisor.variables(WATCHDOG);
    let mut running = agent.start(&service, &borrowed(&variables)).await.unwrap();
    supervisor.hears_of("READY=1").unwrap();
    supervisor.hears_of("WATCHDOG=1").unwrap();
    supervisor.hears_of("WATCHDOG=1").unwrap();
    let pid = Pid::from_raw(i32::try_from(running.pid().unwrap()).unwrap()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    says_nothing(&supervisor, running.pid().unwrap());
    kill_process(pid, Signal::CONT).unwrap();
    supervisor.hears_of("WATCHDOG=1").unwrap();
    running.stop().await.unwrap();
    supervisor.hears_of("STOPPING=1").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_so_many_requests_it_ends_with_success_and_every_accepted_one_is_answered() {
    let home = Home::postgres().await.unwrap();
    let variables = [
        ("DCI_GUNICORN_MAX_REQUESTS", "30"),
        ("MAX_REQUESTS_JITTER", "10"),
        ("LOCAL_WORKER", "false"),
    ];
    let mut service = home.start_with(&variables).await.unwrap();
    // Probes do not count, or it would have ended long before.
    for _ in 0..100 {
        service.request(Method::HEAD, "/api/v1/").send().await.unwrap();
    }
    let mut served = 0_u64;
    loop {
        let answer = service.request(Method::GET, &format!("{BASE}/runs")).send().await;
        // Refused: nobody accepts any more. A balancer asks another instance then.
        let Ok(answer) = answer else { break };
        assert!(answer.status().is_success(), "request {served}: {}", answer.status());
        answer.text().await.unwrap();
        served += 1;
        assert!(served < 1_000, "it does not end");
    }
    let status = service.exited().await.unwrap();
    assert!(status.success(), "{status}");
    let log = std::fs::read_to_string(service.directory.join("service.log")).unwrap();
    let said = log.lines().find(|line| line.contains("as many requests as MAX_REQUESTS says"));
    let said: Value = serde_json::from_str(said.unwrap_or_else(|| panic!("{log}"))).unwrap();
    let most = said["requests"].as_u64().unwrap_or_else(|| panic!("{said}"));
    assert!((30..=40).contains(&most), "{most}");
    // How many more come in while it ends is a matter of the machine: all of them are answered.
    assert!(served >= most, "{served} of {most}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limits_in_force_are_shown_with_their_origin() {
    let home = Home::postgres().await.unwrap();
    let variables = [
        ("DCI_NB_WORKERS", "2"),
        ("DCI_GUNICORN_WORKER_CONNECTIONS", "50"),
        ("GUNICORN_CMD_ARGS", "--graceful-timeout 7 --statsd-host x:1"),
        ("DISPATCHER_SECRET_KEY", "not a setting"),
    ];
    let service = home.start_with(&variables).await.unwrap();
    let full: Value = service.get("/internal/version?full=true").await.unwrap();
    let server = &full["server"];
    assert_eq!(server["worker_threads"]["value"], "2");
    assert_eq!(server["http_max_connections"]["value"], "100");
    let origin = &server["http_max_connections"]["origin"];
    assert_eq!(origin, "DCI_GUNICORN_WORKER_CONNECTIONS");
    assert_eq!(server["graceful_timeout"]["value"], "7");
    let log = std::fs::read_to_string(service.directory.join("service.log")).unwrap();
    for said in ["WORKER_THREADS=2 (DCI_NB_WORKERS)", "--statsd-host", "DISPATCHER_SECRET_KEY"] {
        assert!(log.contains(said), "{said} is not said:\n{log}");
    }
    assert!(!log.contains("not a setting"), "values are not shown");
    let bare: Value = service.get("/internal/version").await.unwrap();
    assert!(bare.is_string(), "the contract's form stays");
}
