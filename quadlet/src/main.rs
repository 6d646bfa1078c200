//! The program: its arguments are `cli`'s, its work is the library's.

use std::process::ExitCode;

use clap::Parser as _;
use quadletgen::cli::Cli;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(Cli::parse().run()),
        Err(error) => Err(error.into()),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("quadletgen: {error:#}");
        ExitCode::FAILURE
    })
}
