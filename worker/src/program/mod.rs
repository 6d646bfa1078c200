//! The program around the agent: its commands, its settings, its place under systemd.

pub(crate) mod cli;
mod facts;
mod register;
mod serve;
mod settings;
mod status;
mod systemd;

use std::process::ExitCode;

use anyhow::Context as _;

use self::cli::{Cli, Command};

/// Carries out a command; a failure is said on standard error, once.
pub(crate) fn start(cli: Cli) -> ExitCode {
    let done = match &cli.command {
        Command::Config { markdown } => settings::show(&cli.settings, *markdown),
        command => settings::log(&cli.settings).and_then(|()| in_runtime(&cli, command)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dispatcher-worker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn in_runtime(cli: &Cli, command: &Command) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("no threads can be started")?
        .block_on(async {
            match command {
                Command::Register(wish) => register::register(&cli.settings, wish).await,
                Command::Run => serve::run(&cli.settings).await,
                Command::Status => status::status(&cli.settings).await,
                Command::Config { .. } => Ok(()),
            }
        })
}
