//! A constant load on a deployment, such as a host's over its bridge: so many requests a second,
//! whether the ones before are answered or not, over connections that are kept; and followers of
//! the log of a run that goes on and on.
//!
//! A failure is a request without a complete answer, and one that is answered with anything but
//! what it is answered with at rest. A follower that is cut goes on from the byte it has; it
//! fails when what it has in the end is not what was printed. Connections that end between two
//! requests are no failures: nothing was sent on them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use dispatcher_wire::{dispatch::RunCreated, execution::ClaimedRun};
use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::{task::JoinSet, time::MissedTickBehavior};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    caller::{Caller, ORG},
    process::BASE,
    worker::{self, ScriptedWorker, printed},
};

/// Followers of the one log.
const FOLLOWERS: usize = 4;
/// Within which every request must be answered.
const DEADLINE: Duration = Duration::from_secs(30);
/// Between two lines of the log.
const PACE: Duration = Duration::from_millis(100);

/// A request that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Since the beginning of the load, when it was sent and when it failed.
    pub from: Duration,
    /// When it was given up.
    pub to: Duration,
    /// What happened.
    pub what: String,
}

impl Failure {
    /// One line.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{:.2?} to {:.2?}: {}", self.from, self.to, self.what)
    }
}

/// How it went.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Requests, answered or not.
    pub requests: usize,
    /// Of them without what was expected.
    pub failures: Vec<Failure>,
    /// The names of dispatches, and the run where one was acknowledged.
    pub posts: BTreeMap<String, Option<Uuid>>,
    /// How often followers went on after a cut.
    pub resumed: usize,
    /// How long requests took.
    pub times: Vec<Duration>,
    /// How long it went on.
    pub took: Duration,
}

impl Report {
    /// How many requests were sent in a second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.requests as f64 / self.took.as_secs_f64()
    }

    /// The time that so much of all requests took at most.
    #[must_use]
    pub fn within(&self, share: f64) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        let last = times.len().saturating_sub(1);
        times.get((last as f64 * share) as usize).copied().unwrap_or_default()
    }

    /// One line.
    #[must_use]
    pub fn summary(&self) -> String {
        format!(
            "{} requests ({:.0}/s), {} failed, median {:.0?}, 99% {:.0?}, longest {:.0?}, followers resumed {} times",
            self.requests,
            self.rate(),
            self.failures.len(),
            self.within(0.5),
            self.within(0.99),
            self.within(1.0),
            self.resumed,
        )
    }

    /// Every request was answered. Prints how.
    ///
    /// # Errors
    /// When some were not: which, and why.
    pub fn ensure_whole(&self, during: &str) -> Result<()> {
        println!("{during}: {}", self.summary());
        let first: Vec<String> = self.failures.iter().take(20).map(Failure::line).collect();
        ensure!(
            first.is_empty(),
            "{during}: {} of {} failed:\n{}",
            self.failures.len(),
            self.requests,
            first.join("\n")
        );
        Ok(())
    }
}

/// A load that is under way.
pub struct Load {
    shared: Arc<Shared>,
    requests: TaskTracker,
    ticking: tokio::task::JoinHandle<()>,
    waiting: tokio::task::JoinHandle<()>,
    talking: tokio::task::JoinHandle<Result<u64>>,
    followers: JoinSet<(Vec<u8>, usize)>,
    run: ClaimedRun,
}

struct Shared {
    caller: Caller,
    /// Takes dispatches and executes none of them.
    idle: ScriptedWorker,
    /// Executes the run that is followed.
    talker: ScriptedWorker,
    begun: Instant,
    /// What the names of its dispatches begin with: no other load's do.
    prefix: String,
    report: Mutex<Report>,
    known: Mutex<Vec<Uuid>>,
    numbers: AtomicU64,
    /// Nothing new begins.
    end: CancellationToken,
    /// Requests in a second.
    rate: u32,
    /// Followers that were cut do not go on.
    over: CancellationToken,
}

impl Load {
    /// Begins with so many requests a second; returns when every kind has been answered once.
    ///
    /// # Errors
    /// When something is not answered even then.
    pub async fn start(caller: &Caller, rate: u32) -> Result<Self> {
        let (idle, talker) = (caller.worker("idle").await?, caller.worker("talker").await?);
        let shared = Arc::new(Shared {
            caller: caller.clone(),
            idle,
            talker,
            begun: Instant::now(),
            prefix: Uuid::new_v4().simple().to_string(),
            report: Mutex::default(),
            known: Mutex::default(),
            numbers: AtomicU64::new(1),
            end: CancellationToken::new(),
            rate,
            over: CancellationToken::new(),
        });
        for worker in [&shared.idle, &shared.talker] {
            worker.wait(0).await?;
        }
        shared.dispatch(&shared.talker, "followed").await?;
        shared.dispatch(&shared.idle, "first").await?;
        let run = shared.talker.claimed().await?;
        let waiting = tokio::spawn(Arc::clone(&shared).wait());
        let talking = tokio::spawn(Arc::clone(&shared).talk(run.clone()));
        let mut followers = JoinSet::new();
        for _ in 0..FOLLOWERS {
            followers.spawn(Arc::clone(&shared).follow(run.run_id));
        }
        let requests = TaskTracker::new();
        let ticking = tokio::spawn(Arc::clone(&shared).tick(requests.clone()));
        Ok(Self { shared, requests, ticking, waiting, talking, followers, run })
    }

    /// How long it goes on.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.shared.begun.elapsed()
    }

    /// How it has gone until now.
    #[must_use]
    pub fn so_far(&self) -> Report {
        let mut report = self.shared.report().clone();
        report.took = self.elapsed();
        report
    }

    /// Begins nothing new, sees everything answered, and compares the logs of followers with what
    /// was printed.
    ///
    /// # Errors
    /// When a follower has a gap, or the run cannot be ended.
    pub async fn finish(mut self) -> Result<Report> {
        self.shared.report().took = self.shared.begun.elapsed();
        self.shared.end.cancel();
        self.ticking.await?;
        self.requests.close();
        self.requests.wait().await;
        self.waiting.await?;
        let lines = self.talking.await??;
        let wanted: String = (1..=lines).map(|n| format!("line {n}\n")).collect();
        self.shared.over.cancel();
        while let Some(followed) = self.followers.join_next().await {
            let (text, resumed) = followed?;
            let text = String::from_utf8(text)?;
            ensure!(text == wanted, "a follower of {} has gaps: {text:?}", self.run.run_id);
            self.shared.report().resumed += resumed;
        }
        Ok(self.shared.report().clone())
    }
}

impl Shared {
    fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, Vec<Uuid>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends at an even pace; one that is late is made up for.
    async fn tick(self: Arc<Self>, requests: TaskTracker) {
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / self.rate);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        while self.end.run_until_cancelled(ticks.tick()).await.is_some() {
            let number = self.numbers.fetch_add(1, Ordering::Relaxed);
            let shared = Arc::clone(&self);
            requests.spawn(async move { shared.one(number).await });
        }
    }

    async fn one(&self, number: u64) {
        let from = self.begun.elapsed();
        let outcome = tokio::time::timeout(DEADLINE, async {
            match number % 5 {
                0 | 1 => self.dispatch(&self.idle, &number.to_string()).await.map(drop),
                2 | 3 => self.read_one(number).await,
                _ => self.read("/runs?limit=5").await,
            }
        });
        let outcome = outcome.await.unwrap_or_else(|_| Err(anyhow::anyhow!("not answered")));
        let to = self.begun.elapsed();
        let mut report = self.report();
        report.requests += 1;
        report.times.push(to.saturating_sub(from));
        if let Err(error) = outcome {
            report.failures.push(Failure { from, to, what: format!("{number}: {error:#}") });
        }
    }

    async fn read(&self, path: &str) -> Result<()> {
        let answer = self.caller.request(Method::GET, &format!("{BASE}{path}")).send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status == StatusCode::OK, "GET {path}: {status}: {text}");
        Ok(())
    }

    async fn read_one(&self, number: u64) -> Result<()> {
        let run = {
            let known = self.known();
            known.get(usize::try_from(number)? % known.len().max(1)).copied()
        };
        self.read(&run.map_or_else(|| "/runs?limit=1".to_owned(), |run| format!("/runs/{run}")))
            .await
    }

    /// A dispatch that is sent once, whatever becomes of it.
    async fn dispatch(&self, to: &ScriptedWorker, name: &str) -> Result<Uuid> {
        let name = &format!("{}-{name}", self.prefix);
        self.report().posts.insert(name.to_owned(), None);
        let item = json!([{
            "recipient": to.recipient, "org_id": ORG, "principal": "load", "name": name,
            "url": "https://example.com/site.yml", "timeout": 3600,
        }]);
        let request = self.caller.request(Method::POST, "/internal/v2/dispatch").json(&item);
        let answer = request.send().await?;
        let (status, text) = (answer.status(), answer.text().await?);
        ensure!(status == StatusCode::MULTI_STATUS, "POST: {status}: {text}");
        let created: Vec<RunCreated> = serde_json::from_str(&text)?;
        let id = created.first().and_then(|run| run.id);
        let Some(id) = id else { anyhow::bail!("POST: {text}") };
        self.report().posts.insert(name.to_owned(), Some(id));
        self.known().push(id);
        Ok(id)
    }

    /// The idle worker's presence: it says it has room, and takes nothing.
    async fn wait(self: Arc<Self>) {
        while !self.end.is_cancelled() {
            let from = self.begun.elapsed();
            if let Err(error) = self.idle.wait(1).await {
                let what = format!("wait: {error:#}");
                self.report().failures.push(Failure { from, to: self.begun.elapsed(), what });
            }
            // It is told at once that there is work for it.
            tokio::time::sleep(PACE).await;
        }
    }

    /// Prints line after line until the end; a request that is not answered is repeated, as a
    /// worker repeats it. Says how many lines there are.
    async fn talk(self: Arc<Self>, run: ClaimedRun) -> Result<u64> {
        let mut next = self.say(&run, 0, worker::start(&run)).await;
        let mut lines = 0;
        while !self.end.is_cancelled() {
            lines += 1;
            next = self.say(&run, next, printed("a", format!("line {lines}"))).await;
            tokio::time::sleep(PACE).await;
        }
        next = self.say(&run, next, worker::stats(&["a"], &[])).await;
        let deadline = Instant::now() + DEADLINE;
        while let Err(error) = self.talker.finish(&run, next).await {
            ensure!(Instant::now() < deadline, "the run cannot be ended: {error:#}");
            tokio::time::sleep(PACE).await;
        }
        Ok(lines)
    }

    async fn say(
        &self,
        run: &ClaimedRun,
        counter: u64,
        event: dispatcher_wire::event::RunnerEvent,
    ) -> u64 {
        let events = [event];
        loop {
            match self.talker.append(run, counter, &events).await {
                Ok(reply) => return reply.next_counter,
                Err(_) if self.over.is_cancelled() => return counter,
                Err(error) => {
                    let now = self.begun.elapsed();
                    let what = format!("append: {error:#}");
                    self.report().failures.push(Failure { from: now, to: now, what });
                    tokio::time::sleep(PACE).await;
                }
            }
        }
    }

    /// What a follower has read when the run is over, and how often it was cut.
    async fn follow(self: Arc<Self>, run: Uuid) -> (Vec<u8>, usize) {
        let (mut text, mut resumed) = (Vec::new(), 0);
        loop {
            let is_last = self.over.is_cancelled();
            let path = format!("{BASE}/runs/{run}/log?follow=true&from={}", text.len());
            if let Ok(answer) = self.caller.request(Method::GET, &path).send().await
                && let Ok(mut answer) = answer.error_for_status()
            {
                while let Ok(Some(piece)) = answer.chunk().await {
                    text.extend_from_slice(&piece);
                }
            }
            if is_last {
                return (text, resumed);
            }
            resumed += usize::from(!self.end.is_cancelled());
            tokio::time::sleep(PACE).await;
        }
    }
}

/// No dispatch has made two runs, and every acknowledged one has made one. `printed` has the
/// names of runs in the database, a line each.
///
/// # Errors
/// When one has made two, or none.
pub fn ensure_once(report: &Report, printed: &str) -> Result<()> {
    let mut found: BTreeSet<&str> = BTreeSet::new();
    for name in printed.lines().filter(|name| report.posts.contains_key(*name)) {
        ensure!(found.insert(name), "{name} was executed twice");
    }
    let is_lost =
        |(name, run): &(&String, &Option<Uuid>)| run.is_some() && !found.contains(name.as_str());
    let lost: Vec<_> = report.posts.iter().filter(is_lost).collect();
    ensure!(lost.is_empty(), "acknowledged, and not in the database: {lost:?}");
    Ok(())
}
