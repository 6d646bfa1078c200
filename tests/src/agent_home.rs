//! The real `dispatcher-worker` as a child process: registered with a token of a real service,
//! started in its own state directory, killed and started again as a test wants.

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use dispatcher_wire::{
    registration::TokenReply,
    view::{RecipientDetailView, RecipientView},
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, Command},
};
use uuid::Uuid;

use crate::process::{BASE, PATIENCE, Service, binary};

/// A worker's state directory, registered at a service.
pub struct AgentHome {
    /// The directory.
    pub state: PathBuf,
    /// Its recipient.
    pub recipient: Uuid,
}

/// A running `dispatcher-worker run`. Killed when dropped.
pub struct Agent {
    child: Child,
    log: PathBuf,
}

/// Runs the program with these arguments to its end, with a token on standard input.
///
/// # Errors
/// When it cannot be started.
pub async fn command(state: &Path, arguments: &[&str], stdin: &str) -> Result<Output> {
    command_with(state, arguments, stdin, &[]).await
}

/// The same with more environment variables.
///
/// # Errors
/// When it cannot be started.
pub async fn command_with(
    state: &Path,
    arguments: &[&str],
    stdin: &str,
    variables: &[(&str, &str)],
) -> Result<Output> {
    let mut command = Command::new(binary("dispatcher-worker")?);
    command.envs(variables.iter().copied());
    command.args(arguments).env("WORKER_STATE_DIR", state).stdin(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // A program that has read enough closes its end.
        let _closed = input.write_all(stdin.as_bytes()).await;
    }
    Ok(tokio::time::timeout(PATIENCE, child.wait_with_output()).await??)
}

/// A registration token for what is asked for.
///
/// # Errors
/// When it is refused.
pub async fn token(service: &Service, body: &Value) -> Result<String> {
    let path = format!("{BASE}/recipients/registrations");
    let answer = service.request(Method::POST, &path).json(body).send().await?;
    let (status, text) = (answer.status(), answer.text().await?);
    ensure!(status.is_success(), "{status}: {text}");
    Ok(serde_json::from_str::<TokenReply>(&text)?.token)
}

impl AgentHome {
    /// Registers a new worker by this name.
    ///
    /// # Errors
    /// When that fails.
    pub async fn register(service: &Service, state: &Path, name: &str) -> Result<Self> {
        Self::register_at(service, state, name, &service.url, &[]).await
    }

    /// The same by another address of the service, with more environment variables.
    ///
    /// # Errors
    /// When that fails.
    pub async fn register_at(
        service: &Service,
        state: &Path,
        name: &str,
        url: &str,
        variables: &[(&str, &str)],
    ) -> Result<Self> {
        let token = token(service, &json!({ "name": name })).await?;
        let output = command_with(state, &["register", "--url", url], &token, variables).await?;
        ensure!(output.status.success(), "{output:?}");
        let identity: Value = serde_json::from_slice(&std::fs::read(state.join("identity.json"))?)?;
        let recipient = identity.get("recipient").and_then(Value::as_str);
        let recipient = recipient.context("an identity has a recipient")?.parse()?;
        Ok(Self { state: state.to_owned(), recipient })
    }

    /// Starts it, and waits until the service sees it.
    ///
    /// # Errors
    /// When it does not come.
    pub async fn start(&self, service: &Service, variables: &[(&str, &str)]) -> Result<Agent> {
        let mut agent = self.spawn(variables)?;
        let started = Instant::now();
        while !agent.log().contains("worker ready")
            || !self.view(service).await?.recipient.connected
        {
            let ended = agent.child.try_wait()?;
            ensure!(ended.is_none(), "it ended with {ended:?}: {}", agent.log());
            ensure!(started.elapsed() < PATIENCE, "it is not seen: {}", agent.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(agent)
    }

    /// Starts it and does not wait.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, variables: &[(&str, &str)]) -> Result<Agent> {
        let path = self.state.with_extension("log");
        let log = std::fs::File::options().create(true).append(true).open(&path)?;
        let mut command = Command::new(binary("dispatcher-worker")?);
        command
            .arg("run")
            .env("WORKER_STATE_DIR", &self.state)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        Ok(Agent { child: command.spawn()?, log: path })
    }

    /// The recipient, as the service shows it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn view(&self, service: &Service) -> Result<RecipientDetailView> {
        service.get(&format!("{BASE}/recipients/{}", self.recipient)).await
    }

    /// Dispatches a playbook to it; more members replace the item's own.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn dispatch(&self, service: &Service, url: &str, more: &Value) -> Result<Uuid> {
        let mut item = service.item(url, &json!({ "recipient": self.recipient }));
        if let (Some(item), Some(more)) = (item.as_object_mut(), more.as_object()) {
            item.extend(more.clone());
        }
        service.dispatch(&item, None).await
    }
}

impl Agent {
    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Ends it with SIGKILL.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub async fn kill(&mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Asks it to end, and waits for it.
    ///
    /// # Errors
    /// When it does not end with success.
    pub async fn stop(&mut self) -> Result<()> {
        let pid = self.pid().and_then(|pid| i32::try_from(pid).ok()).context("it has ended")?;
        let pid = rustix::process::Pid::from_raw(pid).context("a process has a pid")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await??;
        ensure!(status.success(), "it ended with {status}: {}", self.log());
        Ok(())
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Looks again and again until there is something.
///
/// # Errors
/// When there is nothing in time, or looking fails.
pub async fn eventually<T, F>(what: &str, look: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let started = Instant::now();
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        ensure!(started.elapsed() < PATIENCE, "not in {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Every recipient that a service lists.
///
/// # Errors
/// When they cannot be read.
pub async fn recipients(service: &Service, query: &str) -> Result<Vec<RecipientView>> {
    let page: Value = service.get(&format!("{BASE}/recipients{query}")).await?;
    Ok(serde_json::from_value(page.get("data").cloned().unwrap_or_default())?)
}
