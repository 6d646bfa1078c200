//! A worker under test with everything around it.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use dispatcher_worker::AgentConfig;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use uuid::Uuid;

use crate::{dispatcher::Dispatcher, web::Web};

/// A worker, its dispatcher and its web server.
pub(crate) struct Player {
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) web: Web,
    pub(crate) root: tempfile::TempDir,
    pub(crate) config: AgentConfig,
    shutdown: CancellationToken,
    agent: Option<AbortOnDropHandle<()>>,
}

impl Player {
    /// With the real ansible-runner.
    pub(crate) async fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let mut config = AgentConfig::new(root.path().join("work"));
        config.grace = Duration::from_secs(2);
        Self {
            dispatcher: Dispatcher::open(&root.path().join("dispatcher.json")),
            web: Web::start().await,
            root,
            config,
            shutdown: CancellationToken::new(),
            agent: None,
        }
    }

    /// With a script in place of ansible-runner.
    pub(crate) async fn with_runner(script: &str) -> Self {
        let mut player = Self::new().await;
        player.config.ansible_runner = Some(write_runner(player.root.path(), script));
        player.web.playbook("/play.yml", "- hosts: all\n");
        player
    }

    /// Starts the worker.
    pub(crate) fn start(&mut self) {
        self.shutdown = CancellationToken::new();
        let (config, shutdown) = (self.config.clone(), self.shutdown.clone());
        let link: Arc<Dispatcher> = Arc::clone(&self.dispatcher);
        self.agent = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            dispatcher_worker::run(config, link, shutdown).await.unwrap();
        })));
    }

    /// Stops the worker politely.
    pub(crate) async fn stop(&mut self) {
        self.shutdown.cancel();
        self.agent.take().unwrap().await.unwrap();
    }

    /// Drops the worker where it is, as a crash does.
    pub(crate) async fn crash(&mut self) {
        let agent = self.agent.take().unwrap();
        agent.abort();
        assert!(agent.await.unwrap_err().is_cancelled());
    }

    /// Dispatches the playbook of [`Player::with_runner`].
    pub(crate) fn dispatch(&self) -> Uuid {
        self.dispatcher.dispatch(&self.web.url("/play.yml"), None, 600)
    }

    /// Waits until nothing is left of any run on disk.
    pub(crate) async fn nothing_on_disk(&self) {
        for folder in ["runs", "trash"] {
            let folder = self.config.work_dir.join(folder);
            eventually("the run's directory is removed", || {
                std::fs::read_dir(&folder).unwrap().count() == 0
            })
            .await;
        }
    }
}

/// Writes a script that is started as ansible-runner; `$DIR` is its private data directory.
pub(crate) fn write_runner(folder: &Path, script: &str) -> PathBuf {
    let path = folder.join("ansible-runner");
    let text = format!("#!/bin/sh\nfor DIR; do :; done\n{script}\n");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// What a played runner prints as the last event of a success.
pub(crate) const STATS: &str = r#"{"uuid": "s", "counter": 9, "stdout": "", "start_line": 0, "end_line": 0, "event": "playbook_on_stats", "event_data": {"processed": {"localhost": 1}, "failures": {}, "dark": {}}}"#;

/// Processes that carry the run's id, other than zombies.
pub(crate) fn processes_of(run_id: Uuid) -> Vec<String> {
    let wanted = format!("DISPATCHER_RUN_ID={run_id}");
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
        let environment = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes()) {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            found.push(String::from_utf8_lossy(&line).replace('\0', " "));
        }
    }
    found
}

/// Waits for what takes a moment; fails when it never comes.
#[track_caller]
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let place = std::panic::Location::caller();
    async move {
        let until = tokio::time::Instant::now() + Duration::from_secs(180);
        while !holds() {
            assert!(tokio::time::Instant::now() < until, "{place}: not in time: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
