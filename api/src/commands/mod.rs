//! What the binary can be asked to do, one file per command. With [`crate::app`], the only place
//! that knows which adapter is in use.

use std::{future::Future, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::config::{gunicorn::Gunicorn, process::ProcessSettings, source::Source};

mod clean;
mod config;
mod data_dir;
mod events;
mod frame;
mod healthcheck;
mod keys;
mod loops;
mod migrate;
mod openapi;
pub mod opening;
mod publishing;
mod purge;
mod recycling;
mod serve;
mod signs;
mod standalone;
pub mod telemetry;

/// Runs Ansible playbooks on connected hosts.
#[derive(Debug, Parser)]
#[command(name = "dispatcher-api", version, about, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything in one process, with nothing to install: SQLite, a directory, a local worker.
    Standalone(standalone::Arguments),
    /// One instance of the service; the environment says what it shares with others.
    Serve,
    /// The same as serve, as Playbook Dispatcher called it.
    Run(serve::Modules),
    /// Brings the database to this version's shape, or takes that back.
    Migrate(migrate::Arguments),
    /// Ends what has expired, once.
    Clean,
    /// Removes what is older than its retention window, once.
    Purge(purge::Arguments),
    /// Events for consumers.
    #[command(subcommand)]
    Events(events::Command),
    /// Asks an instance whether it is ready; the exit status tells.
    Healthcheck(healthcheck::Arguments),
    /// Makes, lists, replaces and revokes keys of services, directly on the database.
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Shows the settings in force and where they come from.
    Config(config::Arguments),
    /// Prints an OpenAPI document, to generate clients from.
    Openapi(openapi::Arguments),
}

impl Cli {
    /// Does what was asked.
    ///
    /// # Errors
    /// When it cannot be done; the text says why and what helps.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Standalone(arguments) => serving(standalone::run(arguments)),
            Command::Serve => serving(serve::run()),
            Command::Run(modules) => serving(async move {
                modules.check()?;
                serve::run().await
            }),
            Command::Migrate(arguments) => blocking(migrate::run(arguments)),
            Command::Clean => blocking(clean::run()),
            Command::Purge(arguments) => blocking(purge::run(arguments)),
            Command::Events(command) => blocking(events::run(command)),
            Command::Healthcheck(arguments) => blocking(healthcheck::run(arguments)),
            Command::Keys(command) => blocking(keys::run(command)),
            Command::Config(arguments) => config::run(&arguments),
            Command::Openapi(arguments) => openapi::run(&arguments),
        }
    }
}

/// The same on as many threads as the settings say; what is wrong with them is said by whoever
/// reads all of them.
fn serving(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let mut source = Source::from_process();
    let gunicorn = Gunicorn::read(&mut source);
    on_threads(ProcessSettings::read(&mut source, &gunicorn).threads, work)
}

fn blocking(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    on_threads(None, work)
}

fn on_threads(
    threads: Option<usize>,
    work: impl Future<Output = anyhow::Result<ExitCode>>,
) -> anyhow::Result<ExitCode> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = threads.filter(|threads| (1..=1024).contains(threads)) {
        builder.worker_threads(threads);
    }
    let runtime = builder.enable_all().build()?;
    let result = runtime.block_on(work);
    // Work that blocks must not keep an ended process alive.
    runtime.shutdown_background();
    result
}
