//! The life of one `serve` process, as its supervisor sees it: signs to systemd, and the end after
//! so many requests.

use std::{
    os::unix::net::UnixDatagram,
    path::Path,
    time::{Duration, Instant},
};

use dispatcher_tests::{
    home::Home,
    process::{BASE, PATIENCE, Service},
};
use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Systemd, as far as notifications go.
struct Supervisor(UnixDatagram);

impl Supervisor {
    fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        Self(socket)
    }

    /// What is said within this time.
    fn hears(&self, within: Duration) -> Vec<String> {
        let (started, mut said, mut buffer) = (Instant::now(), Vec::new(), [0; 4096]);
        while started.elapsed() < within {
            if let Ok(length) = self.0.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]);
                said.extend(text.lines().map(str::to_owned));
            }
        }
        said
    }

    fn hears_of(&self, what: &str) {
        let started = Instant::now();
        while !self.hears(Duration::from_millis(50)).iter().any(|line| line == what) {
            assert!(started.elapsed() < PATIENCE, "{what} was never said");
        }
    }
}

fn signal(service: &Service, signal: Signal) {
    let pid = i32::try_from(service.pid().unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_hears_of_the_start_of_life_and_of_the_end() {
    let home = Home::postgres().await.unwrap();
    let path = home.path().join("notify");
    let supervisor = Supervisor::at(&path);
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "600000")];
    let mut service = home.start_with(&variables).await.unwrap();
    supervisor.hears_of("READY=1");
    supervisor.hears_of("WATCHDOG=1");
    supervisor.hears_of("WATCHDOG=1");
    signal(&service, Signal::STOP);
    // What it said before is still on its way.
    supervisor.hears(Duration::from_millis(200));
    let said = supervisor.hears(Duration::from_secs(1));
    assert!(said.is_empty(), "a process that is stopped gives no sign: {said:?}");
    signal(&service, Signal::CONT);
    supervisor.hears_of("WATCHDOG=1");
    let stopping = std::thread::spawn(move || supervisor.hears_of("STOPPING=1"));
    service.stop().await.unwrap();
    stopping.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_that_wants_no_signs_gets_none() {
    let home = Home::postgres().await.unwrap();
    let path = home.path().join("notify");
    let supervisor = Supervisor::at(&path);
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap())];
    let _service = home.start_with(&variables).await.unwrap();
    supervisor.hears_of("READY=1");
    let said = supervisor.hears(Duration::from_millis(500));
    assert!(!said.iter().any(|line| line.starts_with("WATCHDOG")), "{said:?}");
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
    let mut served = 0;
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
    // Those of the moment in which it stops to accept are served, too.
    assert!((30..=45).contains(&served), "{served}");
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
