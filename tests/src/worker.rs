//! A worker that does exactly what a test tells it, over HTTP with its own key.

use anyhow::{Context, Result, ensure};
use dispatcher_wire::{
    event::{EXECUTOR_ON_START, EventData, PLAYBOOK_ON_STATS, RunnerEvent, SYNTHETIC_COUNTER},
    execution::{
        AppendReply, CLAIM_HEADER, ClaimReply, ClaimedRun, Doorbell, FIRST_COUNTER_HEADER,
        FinishReply,
    },
};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::json;
use uuid::Uuid;

use crate::process::BASE;

/// A recipient's worker.
#[derive(Clone)]
pub struct ScriptedWorker {
    /// Its recipient.
    pub recipient: Uuid,
    url: String,
    key: String,
    client: Client,
}

impl ScriptedWorker {
    /// A worker with this key.
    #[must_use]
    pub fn new(url: &str, recipient: Uuid, key: String) -> Self {
        Self { recipient, url: url.to_owned(), key, client: Client::new() }
    }

    /// The same worker, at another instance.
    #[must_use]
    pub fn at(&self, url: &str) -> Self {
        Self { url: url.to_owned(), ..self.clone() }
    }

    /// A request with its key.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{BASE}/{path}", self.url);
        self.client.request(method, url).header("authorization", format!("Bearer {}", self.key))
    }

    /// Waits at most this long.
    ///
    /// # Errors
    /// When it is not answered with success.
    pub async fn wait(&self, seconds: u64) -> Result<Doorbell> {
        let body = json!({ "wait_seconds": seconds });
        let request = self.request(Method::POST, "execution/wait").json(&body);
        Ok(request.send().await?.error_for_status()?.json().await?)
    }

    /// Claims the next run, if there is one.
    ///
    /// # Errors
    /// When it is not answered with success.
    pub async fn claim(&self) -> Result<Option<ClaimedRun>> {
        let body = json!({ "claimed_by": "scripted" });
        let request = self.request(Method::POST, "execution/claim").json(&body);
        let reply: ClaimReply = request.send().await?.error_for_status()?.json().await?;
        Ok(reply.run)
    }

    /// Claims the next run, which must be there.
    ///
    /// # Errors
    /// When it is not.
    pub async fn claimed(&self) -> Result<ClaimedRun> {
        self.claim().await?.context("there is no run to claim")
    }

    /// Sends a body of events under a claim.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn send(
        &self,
        run_id: Uuid,
        claim: Uuid,
        first_counter: u64,
        body: impl Into<reqwest::Body>,
    ) -> Result<Response> {
        let request = self
            .request(Method::POST, &format!("runs/{run_id}/events"))
            .header(CLAIM_HEADER, claim.to_string())
            .header(FIRST_COUNTER_HEADER, first_counter);
        Ok(request.body(body).send().await?)
    }

    /// Sends events of a claimed run, which must be taken.
    ///
    /// # Errors
    /// When they are not.
    pub async fn append(
        &self,
        run: &ClaimedRun,
        first_counter: u64,
        events: &[RunnerEvent],
    ) -> Result<AppendReply> {
        let answer = self.send(run.run_id, run.claim, first_counter, lines(events)?).await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status == StatusCode::OK, "{status}: {text}");
        Ok(serde_json::from_str(&text)?)
    }

    /// Ends a claimed run that has so many records.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn end(&self, run: &ClaimedRun, next_counter: u64) -> Result<Response> {
        let request = self
            .request(Method::POST, &format!("runs/{}/finish", run.run_id))
            .header(CLAIM_HEADER, run.claim.to_string())
            .json(&json!({ "next_counter": next_counter }));
        Ok(request.send().await?)
    }

    /// The same, and it must be taken.
    ///
    /// # Errors
    /// When it is not.
    pub async fn finish(&self, run: &ClaimedRun, next_counter: u64) -> Result<FinishReply> {
        Ok(self.end(run, next_counter).await?.error_for_status()?.json().await?)
    }
}

/// Events as a body.
///
/// # Errors
/// Never, for events that have a JSON form.
pub fn lines(events: &[RunnerEvent]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    for event in events {
        serde_json::to_writer(&mut body, event)?;
        body.push(b'\n');
    }
    Ok(body)
}

/// The first record of a run.
#[must_use]
pub fn start(run: &ClaimedRun) -> RunnerEvent {
    RunnerEvent {
        event: EXECUTOR_ON_START.to_owned(),
        uuid: Uuid::new_v4().to_string(),
        counter: SYNTHETIC_COUNTER,
        event_data: Some(EventData {
            crc_dispatcher_correlation_id: Some(run.correlation_id.to_string()),
            ..EventData::default()
        }),
        ..RunnerEvent::default()
    }
}

/// A task on a host that printed this (its last line end not included).
#[must_use]
pub fn printed(host: &str, stdout: impl Into<String>) -> RunnerEvent {
    let stdout = stdout.into();
    let end_line = i64::try_from(stdout.lines().count()).unwrap_or(i64::MAX);
    RunnerEvent {
        event: "runner_on_ok".to_owned(),
        uuid: Uuid::new_v4().to_string(),
        counter: 1,
        stdout: Some(stdout),
        start_line: 0,
        end_line,
        event_data: Some(EventData { host: Some(host.to_owned()), ..EventData::default() }),
    }
}

/// Ansible's counts, with one task on each host and these failed ones.
#[must_use]
pub fn stats(hosts: &[&str], failed: &[&str]) -> RunnerEvent {
    let count = |names: &[&str]| Some(names.iter().map(|name| ((*name).to_owned(), 1)).collect());
    RunnerEvent {
        event: PLAYBOOK_ON_STATS.to_owned(),
        uuid: Uuid::new_v4().to_string(),
        counter: 2,
        event_data: Some(EventData {
            processed: count(hosts),
            failures: count(failed),
            ..EventData::default()
        }),
        ..RunnerEvent::default()
    }
}
