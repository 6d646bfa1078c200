//! `clean`: one look of the cleaner, as the original's timer would start it.

use std::process::ExitCode;

use anyhow::Context as _;
use time::OffsetDateTime;

use super::{opening, telemetry};
use crate::{
    bus::Wakeups,
    cleaner::Cleaner,
    config::{
        Form, cleaner::CleanerSettings, events::EventSettings, logging::LogSettings, source::Source,
    },
};

/// Ends what has expired. Needs the database's settings only.
///
/// # Errors
/// When no database is named, or it fails.
pub(super) async fn run() -> anyhow::Result<ExitCode> {
    let mut source = Source::from_process();
    let database = opening::database(&mut source);
    let settings = CleanerSettings::read(&mut source);
    let has_broker = EventSettings::read(&mut source).has_broker();
    let logging = LogSettings::read(&mut source, Form::Serve);
    source.finish()?;
    telemetry::start(logging)?;
    let stores = opening::open(&database.context("no database is named")?).await?;
    let cleaner = Cleaner::new(stores.upkeep, settings, has_broker, Wakeups::default());
    cleaner.once(OffsetDateTime::now_utc()).await?;
    Ok(ExitCode::SUCCESS)
}
