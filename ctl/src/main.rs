//! `dispatchctl`: the command line for people. It speaks HTTP with the types of `wire` and nothing
//! else: no database, no file of the service but the one that says where a standalone one is.
//!
//! `cli` (what may be typed) → `connection` (where to, with which key) → `client` (HTTP) → one file
//! per group of commands → `output` and `paint` (what is shown). Every failure is a `Trouble`,
//! which knows its exit status; it is printed here, once.

mod audit;
mod bundle;
mod cli;
mod client;
mod connection;
mod context;
mod follow;
mod identity;
mod inputs;
mod keys;
mod listings;
mod login;
mod logs;
mod output;
mod playbooks;
mod recipients;
mod registry;
mod run;
mod runs;
mod secret;
mod text;
mod trouble;

use std::process::ExitCode;

use clap::Parser;

use crate::{
    cli::{Cli, Command},
    trouble::{Result, Trouble},
};

fn main() -> ExitCode {
    start(Cli::parse()).map_or_else(|trouble| trouble.report(), ExitCode::from)
}

fn start(cli: Cli) -> Result<u8> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Trouble::failed(format!("cannot start: {error}")))?
        .block_on(obey(cli))
}

/// Carries the command out; answers with the exit status.
async fn obey(cli: Cli) -> Result<u8> {
    let at = &cli.at;
    match cli.command {
        Command::Run(args) => run::run(at, args).await,
        Command::Runs(command) => runs::runs(at, command).await,
        Command::Logs(args) => logs::logs(at, args).await,
        Command::Recipients(args) => registry::recipients(at, args).await,
        Command::Uploads => listings::uploads(at).await,
        Command::Playbooks(command) => playbooks::playbooks(at, command).await,
        Command::Keys(command) => keys::keys(at, command).await,
        Command::Audit(args) => audit::audit(at, args).await,
        Command::Identity => identity::identity(at).await,
        Command::Login(args) => login::login(at, args).await,
        Command::Logout => login::logout(at).await,
        Command::Context(command) => context::context(at, command),
        Command::Completion { shell } => cli::completion(shell),
    }
}
