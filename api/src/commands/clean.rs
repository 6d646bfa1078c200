//! `clean`: one look of the cleaner, as the original's timer would start it.

use std::process::ExitCode;

use anyhow::Context as _;
use time::OffsetDateTime;

use super::{opening, telemetry};
use crate::{
    cleaner::Cleaner,
    config::{Form, cleaner::CleanerSettings, logging::LogSettings, source::Source},
};

/// Ends what has expired. Needs the database's settings only.
///
/// # Errors
/// When no database is named, or it fails.
pub(super) async fn run() -> anyhow::Result<ExitCode> {
    let mut source = Source::from_process();
    let database = opening::database(&mut source);
    let settings = CleanerSettings::read(&mut source);
    let logging = LogSettings::read(&mut source, Form::Serve);
    source.finish()?;
    telemetry::start(logging)?;
    let stores = opening::open(&database.context("no database is named")?).await?;
    Cleaner::new(stores.upkeep, settings).once(OffsetDateTime::now_utc()).await?;
    Ok(ExitCode::SUCCESS)
}
