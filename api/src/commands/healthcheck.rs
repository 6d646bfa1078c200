//! `healthcheck`: asks an instance whether it is ready, for containers and scripts.

use std::{process::ExitCode, time::Duration};

use clap::Args;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Whom to ask.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// The address to ask.
    #[arg(long, default_value = "http://127.0.0.1:8000/health/ready")]
    url: String,
}

/// Succeeds when the instance says that it is ready; prints what it says otherwise.
///
/// # Errors
/// When nobody answers.
pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let client = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build()?;
    let answer = client.get(&arguments.url).send().await?;
    if answer.status().is_success() {
        return Ok(ExitCode::SUCCESS);
    }
    let status = answer.status();
    eprintln!("{status}: {}", answer.text().await?.trim_end());
    Ok(ExitCode::FAILURE)
}
