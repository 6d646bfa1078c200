//! `dispatcher-worker`: the agent on a recipient. Registers it, and executes its runs.
//!
//! `program::cli` (what may be typed and set) → `register`, `serve`, `status` (one file per command)
//! → the library. Nothing is decided here.

mod program;

use std::process::ExitCode;

use clap::Parser as _;

use crate::program::cli::Cli;

fn main() -> ExitCode {
    program::start(Cli::parse())
}
