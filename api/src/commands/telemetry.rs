//! Logs of the process: to standard error, so that standard output is for people.

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::logging::{LogFormat, LogSettings};

/// Libraries whose debug lines are about themselves, not about the service.
const QUIET: &str = "hyper=info,hyper_util=info,h2=info,reqwest=info,rustls=info,\
                     tokio_postgres=info,refinery_core=warn";

/// Starts logging.
///
/// # Errors
/// When logs go somewhere already.
pub fn start(settings: LogSettings) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(format!("{},{QUIET}", settings.level))?;
    let registry = tracing_subscriber::registry().with(filter);
    match settings.format {
        LogFormat::Json => registry
            .with(fmt::layer().json().flatten_event(true).with_writer(std::io::stderr))
            .try_init()?,
        LogFormat::Text => {
            let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let lines = fmt::layer().with_ansi(colour).with_target(false);
            registry.with(lines.with_writer(std::io::stderr)).try_init()?;
        }
    }
    Ok(())
}
