//! The settings, as the library wants them; shown to people; and the log.

use std::{fmt::Write as _, io::IsTerminal as _, time::Duration};

use anyhow::Context as _;
use clap::CommandFactory as _;
use dispatcher_worker::{
    AgentConfig, config::DiskLimits, http::Service, identity::IdentityFiles, outbound::Outbound,
    verify::Verification,
};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use super::cli::{Cli, LogFormat, Settings};

/// Libraries whose debug lines are about themselves.
const QUIET: &str = "hyper=info,hyper_util=info,reqwest=info,rustls=info";

impl Settings {
    /// Where this worker's key is.
    pub(super) fn identity_files(&self) -> IdentityFiles {
        IdentityFiles::of(&self.state_dir)
    }

    /// How outgoing connections are made.
    pub(super) fn outbound(&self) -> anyhow::Result<Outbound> {
        Outbound::new(self.tls_ca_file.as_deref(), self.proxy.as_deref())
            .map_err(anyhow::Error::msg)
    }

    /// The service at this address.
    pub(super) fn service(&self, url: &str) -> anyhow::Result<Service> {
        Ok(Service::at(url, &self.allow_http, &self.outbound()?)?)
    }

    /// What the agent is told.
    pub(super) fn agent(&self, name: &str) -> anyhow::Result<AgentConfig> {
        let keys = self.verify_keys.as_deref().map(|path| {
            std::fs::read_to_string(path)
                .with_context(|| format!("WORKER_VERIFY_KEYS={} cannot be read", path.display()))
        });
        let keys = keys.transpose()?;
        let verify = Verification::new(self.verify, keys.as_deref());
        let mut config = AgentConfig::new(&self.state_dir);
        name.clone_into(&mut config.name);
        config.ansible_runner.clone_from(&self.ansible_runner);
        config.fetch.plain_http.clone_from(&self.allow_http);
        config.outbound = self.outbound()?;
        config.at_a_time = self.concurrency;
        config.disk = DiskLimits { free_min: self.disk_free_min, used_max: self.disk_max };
        config.verify = verify.map_err(anyhow::Error::msg)?;
        config.output.bytes = self.output_max;
        config.grace = Duration::from_secs(self.cancel_grace);
        Ok(config)
    }
}

/// Starts logging, to standard error.
pub(super) fn log(settings: &Settings) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(format!("{},{QUIET}", settings.log_level.to_lowercase()))?;
    let registry = tracing_subscriber::registry().with(filter);
    match settings.log_format {
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

/// `dispatcher-worker config`.
pub(super) fn show(settings: &Settings, markdown: bool) -> anyhow::Result<()> {
    let text = if markdown { table() } else { values(settings) };
    print!("{text}");
    // Settings that cannot be used are mistakes here too.
    settings.agent("worker").map(drop)
}

/// Name, option, default and meaning of every setting.
fn table() -> String {
    let mut text = String::from("| setting | option | default | meaning |\n|---|---|---|---|\n");
    let command = Cli::command();
    for argument in command.get_arguments() {
        let (Some(name), Some(option)) = (argument.get_env(), argument.get_long()) else {
            continue;
        };
        let default = argument.get_default_values().first();
        let default = default.map(|value| format!("`{}`", value.to_string_lossy()));
        let about = argument.get_help().map(ToString::to_string).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| `{}` | `--{option}` | {} | {about} |",
            name.to_string_lossy(),
            default.unwrap_or_default(),
        );
    }
    text
}

fn values(settings: &Settings) -> String {
    let path = |path: &Option<std::path::PathBuf>| {
        path.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
    };
    // The address of a proxy may hold a password.
    let proxy = if settings.proxy.is_some() { "***" } else { "" };
    let format = match settings.log_format {
        LogFormat::Text => "text",
        LogFormat::Json => "json",
    };
    [
        ("DISPATCHER_URL", settings.url.clone().unwrap_or_default()),
        ("WORKER_STATE_DIR", settings.state_dir.display().to_string()),
        ("WORKER_CONCURRENCY", settings.concurrency.to_string()),
        ("WORKER_DISK_MAX", settings.disk_max.to_string()),
        ("WORKER_DISK_FREE_MIN", settings.disk_free_min.to_string()),
        ("WORKER_OUTPUT_MAX", settings.output_max.to_string()),
        ("WORKER_CANCEL_GRACE", settings.cancel_grace.to_string()),
        ("WORKER_VERIFY", settings.verify.to_string()),
        ("WORKER_VERIFY_KEYS", path(&settings.verify_keys)),
        ("WORKER_TLS_CA_FILE", path(&settings.tls_ca_file)),
        ("WORKER_PROXY", proxy.to_owned()),
        ("WORKER_ALLOW_HTTP", settings.allow_http.to_string()),
        ("ANSIBLE_RUNNER", path(&settings.ansible_runner)),
        ("LOG_LEVEL", settings.log_level.clone()),
        ("LOG_FORMAT", format.to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| format!("{name}={value}\n"))
    .collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[test]
    fn every_setting_is_shown_and_in_the_table() {
        let cli = Cli::parse_from(["dispatcher-worker", "config", "--proxy", "http://u:hunter2@p"]);
        let (values, table) = (values(&cli.settings), table());
        assert!(!values.contains("hunter2"));
        let names = table.lines().skip(2).map(|line| line.split('`').nth(1).unwrap());
        let shown: Vec<_> = values.lines().map(|line| line.split('=').next().unwrap()).collect();
        assert_eq!(names.collect::<Vec<_>>(), shown);
        assert_eq!(shown.len(), 15);
    }
}
