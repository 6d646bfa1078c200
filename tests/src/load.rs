//! A mixed load on a cluster that does not let go: dispatches with keys that are repeated until
//! they are answered, uploads of foreign hosts, lists, logs and cancellations, each request with a
//! deadline. It notes everything that was acknowledged, to be looked for afterwards.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use dispatcher_api::{
    keyring::Keyring,
    uploads::token::{self, Bearer},
};
use dispatcher_wire::dispatch::RunCreated;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    cluster::{CLIENT_MARGIN, ORG, REQUEST_TIMEOUT},
    foreign::{JSONL, form, lines, transcript},
    process::{BASE, KEY, SECRET_KEYS},
};

/// Within which every request must be answered, whatever is going on.
pub const DEADLINE: Duration = Duration::from_secs(REQUEST_TIMEOUT).saturating_add(CLIENT_MARGIN);
/// Between two requests of one kind.
const PACE: Duration = Duration::from_millis(400);

/// Where runs of workers go.
#[derive(Clone, Debug)]
pub struct Target {
    /// The recipient.
    pub recipient: Uuid,
    /// The address of its playbook.
    pub playbook: String,
}

/// A dispatch that was acknowledged.
#[derive(Clone, Debug)]
pub struct Dispatched {
    /// The run.
    pub run: Uuid,
    /// The name it was given, unique, also in the file of executions.
    pub marker: String,
    /// Whether its cancellation was acknowledged too.
    pub is_canceled: bool,
}

/// What was acknowledged, and how requests were answered.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// Dispatches to workers.
    pub dispatched: Vec<Dispatched>,
    /// Dispatches that were refused for good, as to a worker that is away.
    pub refused: usize,
    /// Names of dispatches to foreign hosts whose process died between message and answer: their keys
    /// are refused from then on, since nobody knows what became of the message. Nobody reports on
    /// their runs here, which wait for their timeout.
    pub left_in_flight: Vec<String>,
    /// Uploads, with their runs.
    pub uploads: Vec<(Uuid, Uuid)>,
    /// Answers by kind of request and outcome.
    pub answers: BTreeMap<(&'static str, String), usize>,
    /// The last answer to each kind of request that was not what was asked for.
    pub last: BTreeMap<&'static str, String>,
    /// The longest that a request of each kind took.
    pub slowest: BTreeMap<&'static str, Duration>,
    /// Requests that had no answer within [`DEADLINE`].
    pub unanswered: Vec<String>,
    /// What must never be.
    pub contradictions: Vec<String>,
}

impl Notes {
    /// A line per kind of request.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for (kind, slowest) in &self.slowest {
            let of = self.answers.iter().filter(|((other, _), _)| other == kind);
            let outcomes: Vec<String> = of.map(|((_, how), n)| format!("{how}: {n}")).collect();
            let _ = writeln!(text, "{kind:9} {} (slowest {slowest:.1?})", outcomes.join(", "));
        }
        let _ = writeln!(
            text,
            "{} foreign dispatches left in flight by a kill",
            self.left_in_flight.len()
        );
        text
    }
}

/// A load that is under way.
pub struct Load {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

struct Shared {
    url: String,
    client: Client,
    targets: Vec<Target>,
    keyring: Keyring,
    notes: Mutex<Notes>,
    numbers: AtomicU64,
    end: CancellationToken,
}

impl Load {
    /// Begins. Foreign recipients must be reachable by the connector's mock.
    ///
    /// # Errors
    /// Never, with the secret keys of tests.
    pub fn start(url: &str, targets: Vec<Target>) -> Result<Self> {
        // The limit is the deadline's, on the whole exchange.
        let client = Client::builder().timeout(DEADLINE).build()?;
        let shared = Arc::new(Shared {
            url: url.to_owned(),
            client,
            targets,
            keyring: Keyring::parse(SECRET_KEYS).map_err(anyhow::Error::msg)?,
            notes: Mutex::default(),
            numbers: AtomicU64::new(1),
            end: CancellationToken::new(),
        });
        let mut tasks = JoinSet::new();
        for _ in 0..2 {
            tasks.spawn(repeating(Arc::clone(&shared), Shared::dispatch_and_maybe_cancel));
            tasks.spawn(repeating(Arc::clone(&shared), Shared::upload));
        }
        tasks.spawn(repeating(Arc::clone(&shared), Shared::list));
        tasks.spawn(repeating(Arc::clone(&shared), Shared::read_log));
        Ok(Self { shared, tasks })
    }

    /// What was noted so far.
    #[must_use]
    pub fn notes(&self) -> Notes {
        self.shared.notes().clone()
    }

    /// Begins nothing new, sees everything that is under way acknowledged, and hands out the notes.
    ///
    /// # Errors
    /// When something is not decided in time: how it was answered last.
    pub async fn finish(mut self, patience: Duration) -> Result<Notes> {
        self.shared.end.cancel();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(patience, all).await.is_err() {
            let notes = self.shared.notes();
            bail!("undecided after {patience:?}: {:?}\n{}", notes.last, notes.summary());
        }
        Ok(self.shared.notes().clone())
    }
}

/// Whether the run of this number is canceled once it is dispatched.
pub(crate) fn is_canceled(number: u64) -> bool {
    number.is_multiple_of(6)
}

/// Does something again and again until the end.
async fn repeating(shared: Arc<Shared>, act: impl AsyncFn(&Shared)) {
    while !shared.end.is_cancelled() {
        act(&shared).await;
        shared.end.run_until_cancelled(tokio::time::sleep(PACE)).await;
    }
}

impl Shared {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        request.header("authorization", format!("PSK {KEY}")).header("x-dispatcher-org", ORG)
    }

    /// Sends a request; its answer, where one came, and a note of how it went.
    async fn ask(
        &self,
        kind: &'static str,
        request: RequestBuilder,
    ) -> Option<(StatusCode, String)> {
        let started = Instant::now();
        let answer = match request.send().await {
            Ok(answer) => {
                let status = answer.status();
                answer.text().await.map(|text| (status, text))
            }
            Err(error) => Err(error),
        };
        let took = started.elapsed();
        let how = match &answer {
            Ok((status, _)) => status.as_u16().to_string(),
            Err(error) if error.is_timeout() => "unanswered".to_owned(),
            Err(error) if error.is_connect() => "not connected".to_owned(),
            Err(_) => "cut".to_owned(),
        };
        let mut notes = self.notes();
        if how == "unanswered" {
            notes.unanswered.push(format!("{kind} after {took:.1?}"));
        }
        if let Ok((status, text)) = &answer
            && !status.is_success()
        {
            notes.last.insert(kind, format!("{status}: {text}"));
        }
        *notes.answers.entry((kind, how)).or_default() += 1;
        let slowest = notes.slowest.entry(kind).or_default();
        *slowest = took.max(*slowest);
        answer.ok()
    }

    /// Repeats one dispatch, byte by byte, until it is decided.
    async fn dispatch(&self, item: &Value, marker: &str) -> Option<Uuid> {
        let mut in_flight: Option<Instant> = None;
        loop {
            let request = self.request(Method::POST, "/internal/v2/dispatch");
            let request = request.header("idempotency-key", marker).json(&json!([item]));
            let answer = self.ask("dispatch", request).await;
            if matches!(answer, Some((StatusCode::CONFLICT, _)))
                && in_flight.get_or_insert_with(Instant::now).elapsed() > 2 * DEADLINE
            {
                self.never_decided(item, marker);
                return None;
            }
            if let Some((status, text)) = answer
                && status == StatusCode::MULTI_STATUS
                && let Ok([created]) = serde_json::from_str::<Vec<RunCreated>>(&text).as_deref()
            {
                match (created.code, created.id) {
                    (201, Some(id)) => return Some(id),
                    (404, _) => {
                        self.notes().refused += 1;
                        return None;
                    }
                    // Whether there is a run is not known: the same key finds out.
                    (500.., _) => {}
                    _ => {
                        self.notes().contradictions.push(format!("dispatch: {text}"));
                        return None;
                    }
                }
            }
            tokio::time::sleep(PACE).await;
        }
    }

    /// A key that stays in flight is right for foreign hosts only.
    fn never_decided(&self, item: &Value, marker: &str) {
        let mut notes = self.notes();
        notes.left_in_flight.push(marker.to_owned());
        if item.get("inputs").is_some() {
            notes.contradictions.push(format!("{marker}, to a worker, is never decided"));
        }
    }

    async fn dispatch_and_maybe_cancel(&self) {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let marker = format!("run-{number}");
        let index = usize::try_from(number).unwrap_or_default() % self.targets.len().max(1);
        let Some(target) = self.targets.get(index) else { return };
        let cancels = is_canceled(number);
        let pause = if cancels { "0.3" } else { "0.05" };
        let item = json!({
            "recipient": target.recipient, "org_id": ORG, "principal": "load", "name": marker,
            "url": target.playbook, "timeout": 600,
            "inputs": { "extra_vars": { "marker": marker, "pause": pause } },
        });
        let Some(run) = self.dispatch(&item, &marker).await else { return };
        let is_canceled = cancels && self.cancel(run).await;
        self.notes().dispatched.push(Dispatched { run, marker, is_canceled });
    }

    /// Whether a cancellation was acknowledged; it is asked for once.
    async fn cancel(&self, run: Uuid) -> bool {
        let items = json!([{ "run_id": run, "org_id": ORG, "principal": "load" }]);
        let request = self.request(Method::POST, "/internal/v2/cancel").json(&items);
        let Some((_, text)) = self.ask("cancel", request).await else { return false };
        let items: Value = serde_json::from_str(&text).unwrap_or_default();
        items.pointer("/0/code") == Some(&json!(202))
    }

    /// A run on a foreign host, and its upload, sent until it is taken.
    async fn upload(&self) {
        let marker = format!("foreign-{}", self.numbers.fetch_add(1, Ordering::Relaxed));
        let item = json!({
            "recipient": Uuid::new_v4(), "org_id": ORG, "principal": "load", "name": marker,
            "url": "https://example.com/site.yml", "timeout": 600,
        });
        let Some(run) = self.dispatch(&item, &marker).await else { return };
        let Some(correlation_id) = self.correlation_of(run).await else { return };
        let bearer = Bearer { run_id: run, org_id: ORG.to_owned() };
        let expires = OffsetDateTime::now_utc() + time::Duration::hours(1);
        let path = "/api/ingress/v1/upload?token=";
        let url = format!("{}{path}{}", self.url, token::issue(&self.keyring, &bearer, expires));
        let archive = lines(&transcript(correlation_id, &["a", "b"]));
        loop {
            let (kind, body) = form("file", Some(JSONL), &archive);
            let request = self.client.post(&url).header("content-type", kind).body(body);
            if let Some((StatusCode::ACCEPTED, text)) = self.ask("upload", request).await {
                let answer: Value = serde_json::from_str(&text).unwrap_or_default();
                let id = answer.get("request_id").and_then(Value::as_str);
                match id.and_then(|id| id.parse().ok()) {
                    Some(id) => self.notes().uploads.push((id, run)),
                    None => self.notes().contradictions.push(format!("upload: {text}")),
                }
                return;
            }
            tokio::time::sleep(PACE).await;
        }
    }

    async fn correlation_of(&self, run: Uuid) -> Option<Uuid> {
        loop {
            let request = self.request(Method::GET, &format!("{BASE}/runs/{run}"));
            match self.ask("run", request).await {
                Some((StatusCode::OK, text)) => {
                    let run: Value = serde_json::from_str(&text).ok()?;
                    return run.get("correlation_id")?.as_str()?.parse().ok();
                }
                Some((StatusCode::NOT_FOUND, _)) => {
                    let text = format!("run {run} was acknowledged and is not there");
                    self.notes().contradictions.push(text);
                    return None;
                }
                _ => tokio::time::sleep(PACE).await,
            }
        }
    }

    async fn list(&self) {
        let path = format!("{BASE}/runs?limit=20&filter[service]=test");
        drop(self.ask("list", self.request(Method::GET, &path)).await);
    }

    async fn read_log(&self) {
        let Some(run) = self.notes().dispatched.last().map(|it| it.run) else { return };
        let path = format!("{BASE}/runs/{run}/log");
        if let Some((StatusCode::NOT_FOUND, _)) =
            self.ask("log", self.request(Method::GET, &path)).await
        {
            let text = format!("run {run} was acknowledged and has no log");
            self.notes().contradictions.push(text);
        }
    }
}
