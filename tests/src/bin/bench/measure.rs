//! Takes turns between the store and the bare loop, and reports medians and their ratio.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dispatcher_api::{
    execution::model::{AppendOutcome, ClaimRequest, Hold},
    runs::model::{CreateOutcome, RunFilter, RunQuery},
    store::Stores,
};
use uuid::Uuid;

use crate::{bare::Bare, rows};

/// The figures of one database.
pub(crate) struct Report {
    store: String,
    lines: Vec<(String, Duration, Duration)>,
}

impl Report {
    /// Without figures.
    pub(crate) fn new(store: &str) -> Self {
        Self { store: store.to_owned(), lines: Vec::new() }
    }

    /// The median of each side.
    pub(crate) fn add(
        &mut self,
        what: String,
        mut ours: Vec<Duration>,
        mut bare: Vec<Duration>,
    ) -> Result<()> {
        self.lines.push((what, median(&mut ours)?, median(&mut bare)?));
        Ok(())
    }

    /// Prints a table.
    pub(crate) fn print(&self) {
        println!("{}", self.store);
        for (what, ours, bare) in &self.lines {
            let ratio = ours.as_secs_f64() / bare.as_secs_f64();
            let (ours, bare) = (ours.as_micros(), bare.as_micros());
            println!("  {what:<34} {ours:>8} µs / {bare:>8} µs = {ratio:.2}");
        }
        println!();
    }
}

fn median(times: &mut [Duration]) -> Result<Duration> {
    times.sort();
    times.get(times.len() / 2).copied().context("something was measured")
}

/// Dispatches of `size` runs in one commit.
pub(crate) async fn dispatch(
    report: &mut Report,
    stores: &Stores,
    bare: &mut dyn Bare,
    size: usize,
    turns: usize,
) -> Result<()> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let recipient = Uuid::new_v4();
    for _ in 0..turns {
        let runs: Vec<_> = (0..size).map(|_| rows::new_run("bench", recipient)).collect();
        let started = Instant::now();
        let created = stores.runs.create(&runs, None, &[]).await?;
        ours.push(started.elapsed());
        ensure!(created == CreateOutcome::Created, "{created:?}");

        let runs: Vec<_> = (0..size).map(|_| rows::new_run("bare", recipient)).collect();
        let started = Instant::now();
        bare.dispatch(&runs).await?;
        theirs.push(started.elapsed());
    }
    report.add(format!("dispatch ×{size}"), ours, theirs)
}

/// Appends of 100 records to one run.
pub(crate) async fn append(
    report: &mut Report,
    stores: &Stores,
    bare: &mut dyn Bare,
    turns: u64,
) -> Result<()> {
    let hold = started_run(stores).await?;
    let plain = rows::new_run("bare", Uuid::new_v4());
    bare.dispatch(std::slice::from_ref(&plain)).await?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for turn in 0..turns {
        let first = turn * rows::RECORDS as u64;
        let batch = rows::batch(first);
        let started = Instant::now();
        let outcome = stores.work.append(hold, &batch).await?;
        ours.push(started.elapsed());
        ensure!(matches!(outcome, AppendOutcome::Applied { cancel: false, .. }), "{outcome:?}");

        let start = i64::try_from(turn)? * i64::try_from(batch.output.len())?;
        let next = i64::try_from(batch.end_counter())?;
        let started = Instant::now();
        bare.append(plain.id, start, next, &batch.output).await?;
        theirs.push(started.elapsed());
    }
    report.add(format!("append of {} events", rows::RECORDS), ours, theirs)
}

async fn started_run(stores: &Stores) -> Result<Hold> {
    let recipient = Uuid::new_v4();
    stores.runs.create(&[rows::new_run("bench", recipient)], None, &[]).await?;
    let now = rows::now();
    let claim = Uuid::new_v4();
    let request = ClaimRequest {
        recipient,
        claimed_by: "bench".to_owned(),
        at_a_time: 1,
        claim,
        now,
        lease_until: now + time::Duration::minutes(10),
    };
    let work = stores.work.claim(&request).await?.context("there is work")?;
    Ok(Hold { run_id: work.run_id, claim, recipient })
}

/// First pages (50 runs) of organisations, each one once, with the exact total.
pub(crate) async fn list(
    report: &mut Report,
    stores: &Stores,
    bare: &mut dyn Bare,
    orgs: i64,
    offset: i64,
) -> Result<()> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for org in (0..orgs).step_by(5) {
        let org = format!("org-{org}");
        let query = RunQuery {
            filter: RunFilter { org_id: org.clone(), ..RunFilter::default() },
            ascending: false,
            limit: 50,
            offset,
            now: rows::now(),
        };
        let started = Instant::now();
        let page = stores.runs.list(&query).await?;
        ours.push(started.elapsed());

        let started = Instant::now();
        let total = bare.list(&org, offset).await?;
        theirs.push(started.elapsed());
        ensure!(page.total == total && page.rows.len() == 50, "{total} is not {}", page.total);
    }
    report.add(format!("list 50 from {offset}, with total"), ours, theirs)
}
