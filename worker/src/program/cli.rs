//! What may be typed and set: commands, and the settings, which come from the environment or by
//! option. There is no option for a token: other users of the machine can read every command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use dispatcher_wire::execution::MAX_AT_A_TIME;
use dispatcher_worker::{plain_http::PlainHttp, verify::Mode};
use uuid::Uuid;

/// Executes the Ansible playbooks that a dispatcher has for this host.
#[derive(Debug, Parser)]
#[command(name = "dispatcher-worker", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Register this host with a one-time token; again, to give it a new key
    Register(RegisterArgs),
    /// Execute runs until told to stop
    Run,
    /// Say who this worker is, what it does, and whether the dispatcher knows it
    Status,
    /// Print every setting with its value
    Config {
        /// As a table for the documentation, with defaults instead of values
        #[arg(long)]
        markdown: bool,
    },
}

/// `register`.
#[derive(Args, Debug)]
pub(crate) struct RegisterArgs {
    /// A file that holds the token; without it, the credential `registration-token` of systemd, or
    /// standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// What people call this host; its host name when absent
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The recipient to be, a UUID of version 4; the one of before, or a new one, when absent
    #[arg(long, value_name = "UUID")]
    pub(crate) recipient: Option<Uuid>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people
    #[default]
    Text,
    /// JSON
    Json,
}

/// The settings.
#[derive(Args, Debug)]
#[command(next_help_heading = "Settings, also from the environment")]
pub(crate) struct Settings {
    /// The dispatcher's address; the one this worker was registered at when absent
    #[arg(long, global = true, env = "DISPATCHER_URL", value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Where this worker keeps its key and the runs under way
    #[arg(
        long,
        global = true,
        env = "WORKER_STATE_DIR",
        value_name = "DIR",
        default_value = "/var/lib/dispatcher-worker"
    )]
    pub(crate) state_dir: PathBuf,
    /// How many playbooks are executed at a time
    #[arg(long, global = true, env = "WORKER_CONCURRENCY", value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_AT_A_TIME)))]
    pub(crate) concurrency: u32,
    /// The most that the state directory may hold before nothing new is taken, in bytes or with K,
    /// M, G; 0: no limit
    #[arg(long, global = true, env = "WORKER_DISK_MAX", value_name = "BYTES",
          default_value = "10G", value_parser = bytes)]
    pub(crate) disk_max: u64,
    /// The least that must be free on its disk, or nothing new is taken; 0: no limit
    #[arg(long, global = true, env = "WORKER_DISK_FREE_MIN", value_name = "BYTES",
          default_value = "256M", value_parser = bytes)]
    pub(crate) disk_free_min: u64,
    /// The most output of one run, in bytes; the rest is dropped
    #[arg(long, global = true, env = "WORKER_OUTPUT_MAX", value_name = "BYTES",
          default_value = "256M", value_parser = output_bytes)]
    pub(crate) output_max: u64,
    /// Seconds that a playbook has to end by itself once it is to be ended
    #[arg(long, global = true, env = "WORKER_CANCEL_GRACE", value_name = "SECONDS",
          default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) cancel_grace: u64,
    /// Which playbooks are executed: off (all), pinned (dispatched with their SHA-256), signed (with
    /// a signature by one of the keys)
    #[arg(long, global = true, env = "WORKER_VERIFY", value_name = "MODE", default_value_t)]
    pub(crate) verify: Mode,
    /// A file with the Ed25519 public keys (PEM) whose signatures of playbooks count
    #[arg(long, global = true, env = "WORKER_VERIFY_KEYS", value_name = "FILE")]
    pub(crate) verify_keys: Option<PathBuf>,
    /// A file with certificates (PEM) that are trusted beside the system's
    #[arg(long, global = true, env = "WORKER_TLS_CA_FILE", value_name = "FILE")]
    pub(crate) tls_ca_file: Option<PathBuf>,
    /// The proxy for the dispatcher and for playbooks; the usual variables (https_proxy, no_proxy)
    /// count when absent
    #[arg(long, global = true, env = "WORKER_PROXY", value_name = "URL", hide_env_values = true)]
    pub(crate) proxy: Option<String>,
    /// Allow plain http to other hosts, for the dispatcher and for playbooks: true, or the names of
    /// hosts with commas between them
    #[arg(long, global = true, env = "WORKER_ALLOW_HTTP", value_name = "true|false|HOST,…", num_args = 0..=1,
          default_value = "false", default_missing_value = "true", action = clap::ArgAction::Set)]
    pub(crate) allow_http: PlainHttp,
    /// The program ansible-runner, where it is not to be sought
    #[arg(long, global = true, env = "ANSIBLE_RUNNER", value_name = "FILE")]
    pub(crate) ansible_runner: Option<PathBuf>,
    /// What is logged: error, warn, info, debug, trace
    #[arg(long, global = true, env = "LOG_LEVEL", value_name = "LEVEL", default_value = "info",
          value_parser = ["error", "warn", "info", "debug", "trace"], ignore_case = true)]
    pub(crate) log_level: String,
    /// How log lines look
    #[arg(
        long,
        global = true,
        env = "LOG_FORMAT",
        value_name = "FORMAT",
        value_enum,
        default_value_t
    )]
    pub(crate) log_format: LogFormat,
}

/// A number of bytes: `1048576`, `1024K`, `1M`, `2G`.
fn bytes(text: &str) -> Result<u64, String> {
    let allowed = || "allowed: a number of bytes, also with K, M or G (1024 each)".to_owned();
    let (digits, factor) = match text.char_indices().last() {
        Some((at, 'K' | 'k')) => (text.get(..at), 1 << 10),
        Some((at, 'M' | 'm')) => (text.get(..at), 1 << 20),
        Some((at, 'G' | 'g')) => (text.get(..at), 1 << 30),
        _ => (Some(text), 1),
    };
    let number: u64 = digits.unwrap_or_default().parse().map_err(|_| allowed())?;
    number.checked_mul(factor).ok_or_else(allowed)
}

fn output_bytes(text: &str) -> Result<u64, String> {
    let number = bytes(text)?;
    let range = 64 << 10..=16_u64 << 30;
    if range.contains(&number) { Ok(number) } else { Err("allowed: 64K to 16G".to_owned()) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_are_bytes_or_powers_of_1024() {
        assert_eq!(bytes("10"), Ok(10));
        assert_eq!(bytes("2k"), Ok(2048));
        assert_eq!(bytes("10G"), Ok(10 << 30));
        for wrong in ["", "G", "1.5G", "-1", "1T", "99999999999999G"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
        assert!(output_bytes("1K").is_err() && output_bytes("64K").is_ok());
    }

    #[test]
    fn there_is_no_option_that_takes_a_token_or_a_key() {
        for name in ["--token", "--key"] {
            assert!(Cli::try_parse_from(["dispatcher-worker", "register", name, "x"]).is_err());
        }
    }
}
