//! The binary: reads the command line, does what it says, and says what went wrong.

use std::process::ExitCode;

use clap::Parser as _;
use dispatcher_api::commands::Cli;

fn main() -> ExitCode {
    Cli::parse().run().unwrap_or_else(|error| {
        eprintln!("dispatcher-api: {error:#}");
        ExitCode::FAILURE
    })
}
