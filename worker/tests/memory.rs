//! Output of hundreds of MiB, in one event and in a million, passes through the worker in bounded
//! memory. A test binary of its own, since it measures the whole process.
#![expect(clippy::unwrap_used, reason = "tests: what fails is to stop the test with its place")]

use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use dispatcher_wire::{
    RunStatus,
    event::RunnerEvent,
    execution::{AppendReply, ClaimedRun, Doorbell},
    inputs::RunInputs,
};
use dispatcher_worker::{
    AgentConfig,
    link::{EventSink, LinkError, RunSource},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{Mutex, watch},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const MIB: u64 = 1024 * 1024;

/// Hands out one run and counts what comes.
struct Counter {
    run: Mutex<Option<ClaimedRun>>,
    records: AtomicU64,
    bytes: AtomicU64,
    lines: AtomicU64,
    appends: AtomicU64,
    finished: watch::Sender<bool>,
}

#[async_trait]
impl RunSource for Counter {
    async fn wait(&self, at_most: Duration, _: u32) -> Result<Doorbell, LinkError> {
        tokio::time::sleep(at_most).await;
        Ok(Doorbell::default())
    }

    async fn claim(&self, _: u32) -> Result<Option<ClaimedRun>, LinkError> {
        Ok(self.run.lock().await.take())
    }

    async fn inputs(&self, _: Uuid, _: Uuid) -> Result<RunInputs, LinkError> {
        Ok(RunInputs::default())
    }
}

#[async_trait]
impl EventSink for Counter {
    async fn append(
        &self,
        _: Uuid,
        _: Uuid,
        first_counter: u64,
        events: &[RunnerEvent],
    ) -> Result<AppendReply, LinkError> {
        assert_eq!(first_counter, self.records.load(SeqCst));
        let mut log = String::new();
        events.iter().for_each(|event| event.append_output(&mut log));
        self.appends.fetch_add(1, SeqCst);
        self.bytes.fetch_add(log.len() as u64, SeqCst);
        self.lines.fetch_add(log.bytes().filter(|byte| *byte == b'\n').count() as u64, SeqCst);
        let next_counter = first_counter + events.len() as u64;
        self.records.store(next_counter, SeqCst);
        Ok(AppendReply { next_counter, cancel: false })
    }

    async fn finish(&self, _: Uuid, _: Uuid, next: u64) -> Result<RunStatus, LinkError> {
        assert_eq!(next, self.records.load(SeqCst));
        self.finished.send_replace(true);
        Ok(RunStatus::Success)
    }
}

/// Executes one run with this script in place of ansible-runner.
async fn execute(script: &str) -> Arc<Counter> {
    let root = tempfile::tempdir().unwrap();
    let runner = root.path().join("ansible-runner");
    std::fs::write(&runner, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&runner, std::fs::Permissions::from_mode(0o755)).unwrap();
    let counter = Arc::new(Counter {
        run: Mutex::new(Some(ClaimedRun {
            run_id: Uuid::new_v4(),
            claim: Uuid::new_v4(),
            attempt: 1,
            correlation_id: Uuid::new_v4(),
            name: None,
            url: serve_playbook().await,
            deadline: time::OffsetDateTime::now_utc() + time::Duration::hours(1),
            has_inputs: false,
        })),
        records: AtomicU64::default(),
        bytes: AtomicU64::default(),
        lines: AtomicU64::default(),
        appends: AtomicU64::default(),
        finished: watch::Sender::new(false),
    });
    let mut config = AgentConfig::new(root.path().join("work"));
    config.ansible_runner = Some(runner);
    let (link, shutdown) = (Arc::clone(&counter), CancellationToken::new());
    let agent = tokio::spawn(dispatcher_worker::run(config, link, shutdown.clone()));
    counter.finished.subscribe().wait_for(|finished| *finished).await.unwrap();
    shutdown.cancel();
    agent.await.unwrap().unwrap();
    counter
}

/// A web server for one request.
async fn serve_playbook() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_buf(&mut Vec::with_capacity(4096)).await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]").await.unwrap();
    });
    format!("http://{address}/play.yml")
}

/// The most memory this process has had, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string(Path::new("/proc/self/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

const STATS: &str = r#"{"uuid": "s", "counter": 9, "event": "playbook_on_stats", "event_data": {"processed": {"localhost": 1}}}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn output_of_any_size_takes_little_memory() {
    // Everything that is loaded once is loaded before measuring.
    execute(&format!("echo '{STATS}'")).await;
    let before = peak();

    let line = "0123456789abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQ";
    let event = format!(
        r#"printf '%s' '{{"uuid": "u", "counter": 1, "stdout": "'
yes '{line}' | head -c {} | tr '\n' '~' | sed 's/~/\\r\\n/g'
printf '%s\n' '", "start_line": 0, "end_line": 3276800, "event": "runner_on_ok", "event_data": {{"host": "h"}}}}'
echo '{STATS}'"#,
        200 * MIB - 1
    );
    let counted = execute(&event).await;
    assert_eq!(counted.bytes.load(SeqCst), 200 * MIB);
    assert_eq!(counted.lines.load(SeqCst), 200 * MIB / (line.len() as u64 + 1));

    let counted = execute(&format!("seq 1000000\necho '{STATS}'")).await;
    assert_eq!(counted.lines.load(SeqCst), 1_000_000);
    assert_eq!(counted.bytes.load(SeqCst), 6_888_896);
    assert!(counted.records.load(SeqCst) < 1_000, "{:?}", counted.records);
    assert!(counted.appends.load(SeqCst) < 200, "{:?}", counted.appends);

    let grown = peak() - before;
    assert!(grown < 24 * MIB, "memory grew by {grown} bytes");
    println!("memory grew by {} KiB", grown / 1024);
}
