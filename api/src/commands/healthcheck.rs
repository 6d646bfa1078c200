//! `healthcheck`: asks an instance whether it is ready, for containers and scripts.

use std::{net::Ipv4Addr, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::Args;

use crate::config::{
    Form, gunicorn::Gunicorn, http::HttpSettings, source::Source, values::ListenAddress,
};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Whom to ask.
#[derive(Args, Debug)]
pub(super) struct Arguments {
    /// The address to ask; /health/ready where LISTEN or WEB_PORT say, if it is not given.
    #[arg(long)]
    url: Option<String>,
}

/// Succeeds when the instance says that it is ready; prints what it says otherwise.
///
/// # Errors
/// When nobody answers.
pub(super) async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let url = arguments.url.map_or_else(own_address, Ok)?;
    let client = reqwest::Client::builder().timeout(TIMEOUT).no_proxy().build()?;
    let answer = client.get(&url).send().await?;
    if answer.status().is_success() {
        return Ok(ExitCode::SUCCESS);
    }
    let status = answer.status();
    eprintln!("{status}: {}", answer.text().await?.trim_end());
    Ok(ExitCode::FAILURE)
}

/// Where an instance with this environment can be asked.
fn own_address() -> anyhow::Result<String> {
    let mut source = Source::from_process();
    let gunicorn = Gunicorn::read(&mut source);
    let settings = HttpSettings::read(&mut source, Form::Serve, None, &gunicorn);
    let tcp = settings.listen.iter().find_map(|address| match address {
        ListenAddress::Tcp(address) => Some(*address),
        ListenAddress::Unix(_) => None,
    });
    let mut address = tcp.context("LISTEN names no TCP address; say whom to ask by --url")?;
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    Ok(format!("http://{address}/health/ready"))
}
