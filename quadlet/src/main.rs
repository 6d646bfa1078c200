//! The program: its arguments are `cli`'s, its work is the library's.

use std::process::ExitCode;

use clap::Parser as _;
use quadletgen::cli::Cli;

fn main() -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(Cli::parse().run()),
        Err(error) => {
            eprintln!("quadletgen: {error}");
            ExitCode::FAILURE
        }
    }
}
