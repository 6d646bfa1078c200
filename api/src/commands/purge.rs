//! `purge`: retention once, by hand; or only what it would remove.

use std::process::ExitCode;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde_json::json;
use time::OffsetDateTime;

use super::{keys::user, opening, telemetry};
use crate::{
    audit::model::{Action, Actor, AuditEntry},
    cleaner::retention::{Retention, rows},
    config::{
        Form,
        logging::LogSettings,
        retention::RetentionSettings,
        source::Source,
        storage::StorageSettings,
        tls::{Timeouts, TlsSettings},
        values::Age,
    },
    storage::Objects,
};

/// What is removed. Ages that are not given are those of the settings RETENTION_*.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// Say what would go, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// What final runs have printed, older than this (30d, 12h, 90m).
    #[arg(long, value_name = "AGE")]
    output_older_than: Option<Age>,
    /// Final runs older than this, with their hosts and uploads.
    #[arg(long, value_name = "AGE")]
    runs_older_than: Option<Age>,
    /// Rows of the audit older than this.
    #[arg(long, value_name = "AGE")]
    audit_older_than: Option<Age>,
}

/// Removes it and prints how many rows of each kind went. Safe beside running instances.
///
/// # Errors
/// When nothing is to be removed, a setting is wrong, or a store fails.
pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut source = Source::from_process();
    let database = opening::database(&mut source);
    let set = RetentionSettings::read(&mut source);
    let storage = StorageSettings::read(&mut source);
    let (trusted, timeouts) = (TlsSettings::read(&mut source), Timeouts::read(&mut source));
    let logging = LogSettings::read(&mut source, Form::Serve);
    source.finish()?;
    telemetry::start(logging)?;
    let settings = RetentionSettings {
        output: arguments.output_older_than.or(set.output),
        runs: arguments.runs_older_than.or(set.runs),
        audit: arguments.audit_older_than.or(set.audit),
    };
    if let Err(message) = settings.check() {
        bail!(message);
    }
    ensure!(
        settings.is_on(),
        "nothing is to be removed: set RETENTION_OUTPUT, RETENTION_RUNS or RETENTION_AUDIT, or \
         give --output-older-than, --runs-older-than or --audit-older-than"
    );
    let stores = opening::open(&database.context("no database is named")?).await?;
    let now = OffsetDateTime::now_utc().truncate_to_microsecond();
    if !arguments.dry_run {
        // Before anything goes: it may go, and the command be killed.
        stores.audit.note(&[asked(&settings, now)]).await?;
    }
    let objects = Objects::of(&storage, &trusted, &timeouts)?;
    let retention = Retention::new(stores.retention, objects, settings);
    let purged = retention.once(now, arguments.dry_run).await?;
    println!("{}", if arguments.dry_run { "would be removed:" } else { "removed:" });
    for (what, count) in rows(&purged) {
        println!("  {what:<10} {count}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The row of the audit log: who asked, and for what ages.
fn asked(settings: &RetentionSettings, at: OffsetDateTime) -> AuditEntry {
    let text = |age: &Option<Age>| age.map(|age| age.to_string());
    let RetentionSettings { output, runs, audit } = settings;
    let ages = json!({ "output": text(output), "runs": text(runs), "audit": text(audit) });
    Actor::on_host(&user()).did(Action::RetentionPurge, "rows", None, at).with(ages)
}
