//! A constant load on a deployment, for people who want to see what it does to requests: a line each
//! second, until standard input ends. `URL`, `KEY_FILE` (an operator of all organisations), `RATE`.
//!
//! Ends with 1 where a request failed.
#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use std::{io::Read as _, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use dispatcher_tests::{
    caller::Caller,
    steady::{Failure, Load, Report},
};

/// Requests in a second, unless `RATE` says otherwise.
const RATE: u32 = 50;

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let url = std::env::var("URL").context("URL says where the deployment is")?;
    let file =
        std::env::var("KEY_FILE").context("KEY_FILE names a file with the operator's key")?;
    let rate = std::env::var("RATE").map_or(Ok(RATE), |number| number.parse())?;
    let key = tokio::fs::read_to_string(&file).await.with_context(|| file.clone())?;
    let load = Load::start(&Caller::new(&url, key.trim()), rate).await?;
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.tick().await;
    let mut shown = Report::default();
    let mut ended = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0]));
    loop {
        tokio::select! {
            _ = &mut ended => break,
            _ = ticks.tick() => shown = show(shown, load.so_far()),
        }
    }
    let report = load.finish().await?;
    println!("        in all: {}", report.summary());
    for failure in report.failures.iter().take(20) {
        println!("        failed: {}", failure.line());
    }
    Ok(if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the last second had.
fn show(before: Report, now: Report) -> Report {
    let times = now.times.get(before.times.len()..).unwrap_or_default().to_vec();
    let second = Report { times, ..Report::default() };
    let failed: Vec<&Failure> = now.failures.iter().skip(before.failures.len()).collect();
    println!(
        "        {:>4} requests, {} failed, median {:.0?}, longest {:.0?}",
        now.requests - before.requests,
        failed.len(),
        second.within(0.5),
        second.within(1.0),
    );
    now
}
