//! Settings of execution: leases, limits on output, and the worker inside the process.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use uuid::Uuid;

use super::source::{Source, Spec};

const LEASE: Spec = Spec {
    names: &["EXECUTION_LEASE"],
    about: "Seconds without a sign of life after which a run that was claimed and not started may \
            be claimed again.",
    allowed: "10 to 3600",
    secret: false,
};
const OUTPUT_MAX: Spec = Spec {
    names: &["RUN_OUTPUT_MAX"],
    about: "The most output that is stored for one run, in bytes; the rest is dropped.",
    allowed: "65536 to 17179869184",
    secret: false,
};
const HOSTS_MAX: Spec = Spec {
    names: &["RUN_HOSTS_MAX"],
    about: "The most hosts that are kept for one run; the log says so where a run names more, and \
            the run goes on.",
    allowed: "1 to 1000000",
    secret: false,
};
const HOST_LOG_MAX: Spec = Spec {
    names: &["HOST_LOG_MAX"],
    about: "The most that is written to the log of each host of a run, in bytes (head and tail).",
    allowed: "1024 to 67108864",
    secret: false,
};
const HOST_LOG_TOTAL: Spec = Spec {
    names: &["HOST_LOG_TOTAL"],
    about: "The most that is written to the logs of all hosts of a run together, in bytes. Every \
            host gets the output of the whole run, so that many hosts get less of it each.",
    allowed: "1048576 to 1073741824",
    secret: false,
};
const LOCAL_WORKER: Spec = Spec {
    names: &["LOCAL_WORKER"],
    about: "Whether this process executes runs itself, as a recipient of its own.",
    allowed: "true or false",
    secret: false,
};
const LOCAL_ORG: Spec = Spec {
    names: &["LOCAL_ORG"],
    about: "The organisation that owns the recipient inside this process.",
    allowed: "1 to 10 characters",
    secret: false,
};
const LOCAL_RECIPIENT: Spec = Spec {
    names: &["LOCAL_RECIPIENT"],
    about: "The address of the recipient inside this process; several processes on one database \
            need one each.",
    allowed: "a UUID of version 4, as a dispatch requires",
    secret: false,
};
const LOCAL_NAME: Spec = Spec {
    names: &["LOCAL_NAME"],
    about: "What people call the recipient inside this process.",
    allowed: "1 to 255 characters",
    secret: false,
};

const LOCAL_WORK_DIR: Spec = Spec {
    names: &["LOCAL_WORK_DIR"],
    about: "Where the worker inside this process keeps what it executes; in standalone a \
            directory of the data directory.",
    allowed: "a directory that no other worker uses",
    secret: false,
};
const ANSIBLE_RUNNER: Spec = Spec {
    names: &["ANSIBLE_RUNNER"],
    about: "The program ansible-runner, where it is not to be sought.",
    allowed: "a path",
    secret: false,
};
const PLAIN_HTTP: Spec = Spec {
    names: &["LOCAL_PLAIN_HTTP"],
    about: "Whether the worker inside this process may fetch playbooks by http from other machines.",
    allowed: "true or false",
    secret: false,
};
const CANCEL_GRACE: Spec = Spec {
    names: &["LOCAL_CANCEL_GRACE"],
    about: "Seconds that a playbook has to end by itself once it is to be ended.",
    allowed: "1 to 600",
    secret: false,
};

/// The recipient inside the process where none is named: the same after every start. A dispatch
/// takes recipients of version 4 only (contract), so it has that form.
pub const DEFAULT_LOCAL_RECIPIENT: Uuid =
    Uuid::from_u128(0xa20b_6ef2_92ba_419b_91b2_884b_9df7_7b61);
/// The organisation that owns it where none is named.
pub const DEFAULT_LOCAL_ORG: &str = "local";
/// Where it works, in the data directory of standalone.
const OWN_WORK_DIR: &str = "worker";
/// Where it works otherwise.
const DEFAULT_WORK_DIR: &str = "/var/lib/dispatcher-worker";
/// The most characters in the name of an organisation.
const MAX_ORG: usize = 10;
/// The most characters in the name of a recipient.
const MAX_NAME: usize = 255;

/// Leases and limits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ExecutionSettings {
    /// How long a claim lasts without a sign of life.
    pub lease: Duration,
    /// The most output stored for one run, in bytes.
    pub output_max: u64,
    /// The most hosts kept for one run.
    pub hosts_max: u64,
    /// The most written to each host's log, in bytes.
    pub host_log_max: usize,
    /// The most that is written to the logs of all hosts of a run together, in bytes.
    pub host_logs_total: usize,
}

impl Default for ExecutionSettings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(60),
            output_max: 256 * 1024 * 1024,
            hosts_max: 50_000,
            host_log_max: 1024 * 1024,
            host_logs_total: 64 * 1024 * 1024,
        }
    }
}

impl ExecutionSettings {
    /// Reads them.
    pub fn read(source: &mut Source) -> Self {
        let default = Self::default();
        let lease = source.within(&LEASE, default.lease.as_secs(), 10..=3600);
        Self {
            lease: Duration::from_secs(lease),
            output_max: source.within(&OUTPUT_MAX, default.output_max, 65_536..=17_179_869_184),
            hosts_max: source.within(&HOSTS_MAX, default.hosts_max, 1..=1_000_000),
            host_log_max: source.within(&HOST_LOG_MAX, default.host_log_max, 1024..=67_108_864),
            host_logs_total: source.within(
                &HOST_LOG_TOTAL,
                default.host_logs_total,
                1_048_576..=1_073_741_824,
            ),
        }
    }
}

/// The worker inside the process.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LocalSettings {
    /// Whether there is one.
    pub enabled: bool,
    /// Who owns its recipient.
    pub org_id: String,
    /// Its recipient.
    pub recipient: Uuid,
    /// What people call it.
    pub name: String,
    /// Where it keeps what it executes.
    pub work_dir: PathBuf,
    /// ansible-runner, where it is not to be sought.
    pub ansible_runner: Option<PathBuf>,
    /// Whether it may fetch by http from other machines.
    pub plain_http: bool,
    /// From asking a playbook to end to ending it.
    pub cancel_grace: Duration,
}

impl LocalSettings {
    /// Reads them. With a data directory of its own (standalone), a process has a local worker
    /// unless it is told otherwise.
    pub fn read(source: &mut Source, data_dir: Option<&Path>) -> Self {
        let enabled = source.parsed(&LOCAL_WORKER, data_dir.is_some());
        let recipient: Uuid = source.parsed(&LOCAL_RECIPIENT, DEFAULT_LOCAL_RECIPIENT);
        if recipient.get_version_num() != 4 {
            source.reject(&LOCAL_RECIPIENT, &recipient.to_string());
        }
        let own_dir = data_dir.map(|data| data.join(OWN_WORK_DIR));
        let default_dir = own_dir.unwrap_or_else(|| DEFAULT_WORK_DIR.into());
        Self {
            enabled,
            recipient,
            org_id: short_text(source, &LOCAL_ORG, DEFAULT_LOCAL_ORG, MAX_ORG),
            name: short_text(source, &LOCAL_NAME, "local", MAX_NAME),
            work_dir: source.text(&LOCAL_WORK_DIR).map_or(default_dir, PathBuf::from),
            ansible_runner: source.text(&ANSIBLE_RUNNER).map(PathBuf::from),
            plain_http: source.parsed(&PLAIN_HTTP, false),
            cancel_grace: Duration::from_secs(source.within(&CANCEL_GRACE, 10, 1..=600)),
        }
    }
}

fn short_text(source: &mut Source, spec: &Spec, default: &str, most: usize) -> String {
    let text = source.parsed(spec, default.to_owned());
    if !(1..=most).contains(&text.chars().count()) || text.contains('\0') {
        source.reject(spec, &text);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(variables: &[(&str, &str)]) -> Source {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Source::new(variables.iter().map(own).collect())
    }

    #[test]
    fn unset_settings_have_their_defaults() {
        let mut source = source(&[]);
        assert_eq!(ExecutionSettings::read(&mut source), ExecutionSettings::default());
        let local = LocalSettings::read(&mut source, Some(Path::new("/data")));
        assert!(local.enabled && !LocalSettings::read(&mut source, None).enabled);
        assert_eq!(local.work_dir, Path::new("/data/worker"));
        assert_eq!((local.org_id.as_str(), local.recipient), ("local", DEFAULT_LOCAL_RECIPIENT));
        assert_eq!(local.recipient.get_version_num(), 4, "or no dispatch could name it");
        source.finish().unwrap();
    }

    #[test]
    fn values_outside_their_range_stop_the_start() {
        let mut source = source(&[
            ("EXECUTION_LEASE", "5"),
            ("RUN_OUTPUT_MAX", "1"),
            ("RUN_HOSTS_MAX", "0"),
            ("HOST_LOG_MAX", "99999999999"),
            ("LOCAL_ORG", "elevenchars"),
            ("LOCAL_RECIPIENT", "localhost"),
            ("LOCAL_WORKER", "yes"),
        ]);
        ExecutionSettings::read(&mut source);
        LocalSettings::read(&mut source, None);
        let error = source.finish().unwrap_err();
        assert_eq!(error.0.len(), 7, "{error}");
        assert!(error.to_string().contains("EXECUTION_LEASE=5"), "{error}");
    }
}
