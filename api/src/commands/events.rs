//! `events read`: tells consumers again what runs and their hosts are now.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use time::OffsetDateTime;

use super::{keys::user, opening, telemetry};
use crate::{
    audit::model::Actor,
    bus::Wakeups,
    config::{Form, logging::LogSettings, source::Source},
    events::read::{MAX_LIMIT, ReadRequest, read},
};

/// What can be done with events.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Writes `read` events for runs and their hosts as they are now; safe to repeat.
    Read(Filter),
}

/// Of which runs.
#[derive(Args, Debug)]
pub(super) struct Filter {
    /// Runs of this organisation only.
    #[arg(long, value_name = "ORG")]
    org: Option<String>,
    /// Runs of this service only.
    #[arg(long)]
    service: Option<String>,
    /// Runs in this state only: running, success, failure, timeout, canceled.
    #[arg(long)]
    status: Option<String>,
    /// Runs that changed since then only (2026-08-01T10:00:00Z).
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
}

/// Writes them all, in small commits, and prints how many.
///
/// # Errors
/// When a value is not allowed, no database is named, or it fails.
pub(super) async fn run(command: Command) -> anyhow::Result<ExitCode> {
    let Command::Read(Filter { org, service, status, since }) = command;
    let mut source = Source::from_process();
    let database = opening::database(&mut source);
    let logging = LogSettings::read(&mut source, Form::Serve);
    source.finish()?;
    telemetry::start(logging)?;
    let request = ReadRequest { service, status, since, limit: Some(MAX_LIMIT), after: None };
    let mut reading = request.understand(org).map_err(anyhow::Error::msg)?;
    let stores = opening::open(&database.context("no database is named")?).await?;
    let now = OffsetDateTime::now_utc().truncate_to_microsecond();
    stores.audit.note(&[reading.asked_by(&Actor::on_host(&user()), now)]).await?;
    let (wakeups, mut runs, mut run_hosts) = (Wakeups::default(), 0, 0);
    loop {
        let page = read(stores.events.as_ref(), &wakeups, &reading).await?;
        runs += page.runs;
        run_hosts += page.run_hosts;
        reading.after = page.next;
        if page.next.is_none() {
            break;
        }
    }
    println!("{runs} runs and {run_hosts} hosts are told again");
    Ok(ExitCode::SUCCESS)
}
