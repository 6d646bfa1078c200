//! The real binary as a child process: started in its own directory on a free port, killed and
//! started again as a test wants. Talks to it over HTTP like any client.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail, ensure};
use dispatcher_api::config::execution::{DEFAULT_LOCAL_ORG, DEFAULT_LOCAL_RECIPIENT};
use dispatcher_wire::{
    dispatch::{RunCanceled, RunCreated},
    view::{PlaybookView, RunView},
};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use uuid::Uuid;

/// How long anything may take before a test gives up: far more than it takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// Where our own routes and the public ones live.
pub const BASE: &str = "/api/playbook-dispatcher/v1";

/// The secret keys of `serve` in tests.
pub const SECRET_KEYS: &str = "test:dGhlIHNlY3JldCB0aGF0IG9ubHkgdGVzdHMgaGF2ZSwga25vd24gdG8gYWxs";
/// The key of the service `test` of `serve`, which may act for every organisation.
pub const KEY: &str = "testkey";

/// A running `dispatcher-api standalone`, or `serve`. Killed when dropped.
pub struct Service {
    child: Child,
    /// Its data directory.
    pub directory: PathBuf,
    /// Its address.
    pub url: String,
    /// Its local recipient.
    pub recipient: Uuid,
    /// Its organisation.
    pub org_id: String,
    key: String,
    client: reqwest::Client,
}

/// A binary of this workspace, as built beside the tests.
///
/// # Errors
/// When it has not been built, or not since its sources changed (`cargo test` alone does not).
pub fn binary(name: &str) -> Result<PathBuf> {
    let tests = std::env::current_exe()?;
    let beside = tests.parent().context("a program lies in a directory")?;
    // Tests lie in deps/, benchmarks beside the binary itself.
    let profile = if beside.ends_with("deps") { beside.parent() } else { Some(beside) };
    let profile = profile.context("deps/ lies in a directory")?;
    let path = profile.join(name);
    let built = std::fs::metadata(&path).and_then(|found| found.modified());
    let missing = || format!("{} is missing: run `cargo build --workspace`", path.display());
    let built = built.with_context(missing)?;
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    // What is not in a binary does not make it old.
    for sources in ["wire/src"].into_iter().chain(own_sources(name)) {
        ensure!(
            changed(&workspace.join(sources))? <= built,
            "{} is older than {sources}: run `cargo build --workspace`",
            path.display()
        );
    }
    Ok(path)
}

/// What only some binaries are made of.
fn own_sources(name: &str) -> Vec<&'static str> {
    match name {
        "dispatcher-api" => vec!["worker/src", "api/src", "auth-tracker/src"],
        "auth-tracker" => {
            vec!["worker/src", "api/src", "auth-tracker/src", "auth-tracker/sidecar/src"]
        }
        "dispatcher-worker" => vec!["worker/src"],
        _ => vec!["ctl/src"],
    }
}

/// When the newest file below a folder changed.
fn changed(folder: &Path) -> Result<SystemTime> {
    let mut newest = SystemTime::UNIX_EPOCH;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let directory = entry.file_type()?.is_dir();
        let own = if directory { changed(&entry.path())? } else { entry.metadata()?.modified()? };
        newest = newest.max(own);
    }
    Ok(newest)
}

impl Service {
    /// Starts it in a directory and waits until it serves.
    ///
    /// # Errors
    /// When it ends or does not serve in time.
    pub async fn start(directory: &Path) -> Result<Self> {
        Self::start_with(directory, &[]).await
    }

    /// The same with more environment variables, such as `DISPATCHER_CRASH_AT`.
    ///
    /// # Errors
    /// When it ends or does not serve in time.
    pub async fn start_with(directory: &Path, variables: &[(&str, &str)]) -> Result<Self> {
        let announcement = directory.join("standalone.json");
        if announcement.exists() {
            std::fs::remove_file(&announcement)?;
        }
        let data = directory.to_str().context("a directory with a name in UTF-8")?;
        let listen = listen_address(directory)?;
        let arguments = ["standalone", "--listen", &listen, "--data-dir", data];
        let mut child = spawn(directory, &arguments, variables)?;
        let announced = async || std::fs::read(&announcement).ok();
        let announced = until(announced, &mut child, directory).await?;
        let announced: Value = serde_json::from_slice(&announced)?;
        let text = |name: &str| announced.get(name).and_then(Value::as_str).unwrap_or_default();
        let key = std::fs::read_to_string(directory.join("api-key"))?.trim().to_owned();
        Ok(Self {
            child,
            directory: directory.to_owned(),
            url: text("url").to_owned(),
            recipient: text("recipient").parse()?,
            org_id: text("org_id").to_owned(),
            key,
            client: reqwest::Client::new(),
        })
    }

    /// Starts `serve` on a database, with a local worker; everything else it needs is in the
    /// directory. Waits until it is ready.
    ///
    /// # Errors
    /// When it ends or is not ready in time.
    pub async fn serve(
        directory: &Path,
        database_url: &str,
        variables: &[(&str, &str)],
    ) -> Result<Self> {
        let inside = |name: &str| directory.join(name).display().to_string();
        let (objects, work_dir) = (inside("objects"), inside("worker"));
        let address = listen_address(directory)?;
        let (url, listen) = (format!("http://{address}"), format!("tcp:{address}"));
        let own = [
            ("DATABASE_URL", database_url),
            ("DB_POOL_TIMEOUT", "60"),
            ("STORE_ENGINE", "file"),
            ("STORE_FILE_PATH", &objects),
            ("PUBLIC_URL", &url),
            ("LISTEN", &listen),
            ("METRICS_PORT", "0"),
            ("DRAIN_DELAY", "0"),
            ("DISPATCHER_SECRET_KEYS", SECRET_KEYS),
            ("PSK_AUTH_TEST", KEY),
            ("LOCAL_WORKER", "true"),
            ("LOCAL_WORK_DIR", &work_dir),
        ];
        let mut child = spawn(directory, &["serve"], &[&own, variables].concat())?;
        let client = reqwest::Client::new();
        let ready = format!("{url}/health/ready");
        let is_ready = async || {
            let answer = client.get(&ready).send().await.ok()?;
            answer.status().is_success().then_some(())
        };
        until(is_ready, &mut child, directory).await?;
        Ok(Self {
            child,
            directory: directory.to_owned(),
            url,
            recipient: DEFAULT_LOCAL_RECIPIENT,
            org_id: DEFAULT_LOCAL_ORG.to_owned(),
            key: KEY.to_owned(),
            client,
        })
    }

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

    /// Waits until it has died by itself (a crash point).
    ///
    /// # Errors
    /// When it lives on.
    pub async fn died(&mut self) -> Result<()> {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let status =
            status.with_context(|| format!("it lives on: {}", tail(&self.directory)))??;
        ensure!(!status.success(), "it ended by itself, with success");
        Ok(())
    }

    /// Asks it to end and waits for it.
    ///
    /// # Errors
    /// When it does not end, or not with success.
    pub async fn stop(&mut self) -> Result<()> {
        let pid = self.pid().and_then(|pid| i32::try_from(pid).ok()).context("it has ended")?;
        let pid = rustix::process::Pid::from_raw(pid).context("a process has a pid")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = self.exited().await?;
        ensure!(status.success(), "it ended with {status}: {}", tail(&self.directory));
        Ok(())
    }

    /// Waits until it has ended, and says how.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn exited(&mut self) -> Result<std::process::ExitStatus> {
        Ok(tokio::time::timeout(PATIENCE, self.child.wait()).await??)
    }

    /// A request with its key.
    pub fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.client
            .request(method, format!("{}{path}", self.url))
            .header("authorization", format!("PSK {}", self.key))
            .header("x-dispatcher-org", &self.org_id)
    }

    /// Stores a playbook; answers with the address to dispatch it by.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn put_playbook(&self, name: &str, content: impl Into<String>) -> Result<String> {
        let path = format!("{BASE}/playbooks/{name}");
        let answer = self.request(reqwest::Method::PUT, &path).body(content.into()).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "{status}: {text}");
        Ok(serde_json::from_str::<PlaybookView>(&text)?.url)
    }

    /// The dispatch item for a playbook on the local recipient; more members replace its own.
    #[must_use]
    pub fn item(&self, url: &str, more: &Value) -> Value {
        let mut item = json!({
            "recipient": self.recipient, "org_id": self.org_id, "principal": "test",
            "url": url, "name": "test",
        });
        if let (Some(item), Some(more)) = (item.as_object_mut(), more.as_object()) {
            item.extend(more.clone());
        }
        item
    }

    /// Dispatches one item; an error where it was not answered, or not with 201.
    ///
    /// # Errors
    /// See above.
    pub async fn dispatch(&self, item: &Value, idempotency_key: Option<&str>) -> Result<Uuid> {
        let mut request = self.request(reqwest::Method::POST, "/internal/v2/dispatch");
        if let Some(key) = idempotency_key {
            request = request.header("idempotency-key", key);
        }
        let answer = request.json(&json!([item])).send().await?;
        let text = answer.text().await?;
        let created: Vec<RunCreated> = serde_json::from_str(&text).context(text.clone())?;
        match created.as_slice() {
            [RunCreated { code: 201, id: Some(id), .. }] => Ok(*id),
            _ => bail!("not created: {text}"),
        }
    }

    /// Cancels a run; answers with the item's code.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn cancel(&self, run: Uuid) -> Result<u16> {
        let item = json!([{ "run_id": run, "org_id": self.org_id, "principal": "test" }]);
        let request = self.request(reqwest::Method::POST, "/internal/v2/cancel");
        let answer: Vec<RunCanceled> = request.json(&item).send().await?.json().await?;
        answer.first().map(|item| item.code).context("an item per request")
    }

    /// Reads JSON.
    ///
    /// # Errors
    /// When it is not answered with success.
    pub async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T> {
        let answer = self.request(reqwest::Method::GET, path).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status.is_success(), "GET {path}: {status}: {text}");
        serde_json::from_str(&text).context(text)
    }

    /// One run.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn run(&self, id: Uuid) -> Result<RunView> {
        self.get(&format!("{BASE}/runs/{id}")).await
    }

    /// What a run printed so far, or, following, until it ended.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn log(&self, id: Uuid, follow: bool) -> Result<String> {
        let path = format!("{BASE}/runs/{id}/log?follow={follow}");
        let answer = self.request(reqwest::Method::GET, &path).send().await?;
        Ok(answer.error_for_status()?.text().await?)
    }

    /// Follows a run to its end and reads it.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn ended(&self, id: Uuid) -> Result<(RunView, String)> {
        let log = tokio::time::timeout(PATIENCE, self.log(id, true)).await;
        let log =
            log.with_context(|| format!("run {id} does not end: {}", tail(&self.directory)))?;
        let run = self.run(id).await?;
        ensure!(run.status.is_final(), "the log of run {id} ended while it is {}", run.status);
        Ok((run, log?))
    }
}

/// The binary as a child, whose own log is in the directory.
fn spawn(directory: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Child> {
    let log = directory.join("service.log");
    let log = std::fs::File::options().create(true).append(true).open(log)?;
    let mut command = Command::new(binary("dispatcher-api")?);
    command.args(arguments).envs(variables.iter().copied()).stdin(Stdio::null());
    Ok(command.stdout(log.try_clone()?).stderr(log).kill_on_drop(true).spawn()?)
}

/// Looks until there is something, or the service has ended.
async fn until<T>(
    look: impl AsyncFn() -> Option<T>,
    child: &mut Child,
    directory: &Path,
) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        if let Some(status) = child.try_wait()? {
            bail!("the service ended with {status}: {}", tail(directory));
        }
        ensure!(started.elapsed() < PATIENCE, "no start in {PATIENCE:?}: {}", tail(directory));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The address a service in this directory listens on: a free port, the same after a restart, since
/// addresses of stored playbooks contain it.
fn listen_address(directory: &Path) -> Result<String> {
    let file = directory.join("address");
    if let Ok(address) = std::fs::read_to_string(&file) {
        return Ok(address);
    }
    let address = format!("127.0.0.1:{}", crate::ports::free()?);
    std::fs::create_dir_all(directory)?;
    std::fs::write(file, &address)?;
    Ok(address)
}

/// The last lines of the service's own log, for messages of tests.
fn tail(directory: &Path) -> String {
    let text = std::fs::read_to_string(directory.join("service.log")).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(15).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
