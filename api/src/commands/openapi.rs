//! `openapi`: the documents that instances serve, without an instance.

use std::{
    io::{ErrorKind, Write as _},
    process::ExitCode,
};

use clap::Args;

use crate::http::{json, openapi};

/// Which document.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// What services call, instead of what organisations call.
    #[arg(long)]
    internal: bool,
    /// Where the service is, such as its PUBLIC_URL; the document names it first.
    #[arg(long, value_name = "URL", conflicts_with = "internal")]
    server: Option<String>,
}

/// Prints it.
///
/// # Errors
/// When it cannot be printed.
pub(super) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let server = arguments.server.as_deref().map(|url| url.trim_end_matches('/'));
    let document = if arguments.internal { openapi::internal() } else { openapi::public(server) };
    let text = json::indented(&json::bytes(&document)?);
    match std::io::stdout().write_all(&text) {
        // Whoever reads it has read enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        written => Ok(written.map(|()| ExitCode::SUCCESS)?),
    }
}
