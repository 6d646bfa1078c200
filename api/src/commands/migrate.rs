//! `migrate`: brings the database to this version's shape, or takes that back.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::opening::{self, Down};
use crate::config::source::Source;

/// Which way.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// up makes or upgrades what is missing; down takes away what is ours alone; down-all takes
    /// away everything, all runs among it.
    #[arg(default_value = "up")]
    direction: Direction,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Direction {
    Up,
    Down,
    DownAll,
}

/// Migrates and says what was done. Nothing to do is success.
///
/// # Errors
/// When no database is named, or it is not ours to touch.
pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut source = Source::from_process();
    let database = opening::database(&mut source);
    source.finish()?;
    let database = database.context("no database is named")?;
    let done = match arguments.direction {
        Direction::Up => opening::migrate_up(&database).await?,
        Direction::Down => opening::migrate_down(&database, Down::Ours).await?.to_owned(),
        Direction::DownAll => opening::migrate_down(&database, Down::All).await?.to_owned(),
    };
    println!("{done}");
    Ok(ExitCode::SUCCESS)
}
