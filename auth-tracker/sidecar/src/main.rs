//! The sidecar: reads the command line and the settings, opens what they name, and runs the tracker
//! of the library until a signal.
//!
//! What the tracker does is in the library; here is only what a process needs around it.

mod process;
mod settings;
mod supervisor;
mod wiring;

use std::process::ExitCode;

use clap::Parser;

/// Gathers keys of services and of the SSO server for all instances, and writes down when somebody
/// was last authenticated.
#[derive(Debug, Parser)]
#[command(name = "auth-tracker", version, about)]
struct Arguments {
    /// Seconds after which times of last authentication are written down; `LAST_AUTH_INTERVAL` if
    /// it is not given.
    #[arg(short, long, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    interval: Option<u64>,
    /// How many changed times are written down without waiting for that; `LAST_AUTH_THRESHOLD` if
    /// it is not given.
    #[arg(short, long, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    threshold: Option<u64>,
    /// Gather, publish and write down once, then end; any error is exit status 1.
    #[arg(long)]
    once: bool,
}

fn main() -> ExitCode {
    process::run(&Arguments::parse()).unwrap_or_else(|error| {
        eprintln!("auth-tracker: {error:#}");
        ExitCode::FAILURE
    })
}
