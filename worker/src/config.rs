//! What an agent is told: where it works, what it may fetch, and its limits. Data only; the program
//! around the agent reads settings and fills this in.

use std::{path::PathBuf, time::Duration};

use crate::{outbound::Outbound, plain_http::PlainHttp, verify::Verification};

/// Everything an agent needs to know.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// What people call this worker; for logs.
    pub name: String,
    /// Where journals, spools and the files of runs live; one agent per directory.
    pub work_dir: PathBuf,
    /// ansible-runner, where it is not to be sought.
    pub ansible_runner: Option<PathBuf>,
    /// What a playbook may be fetched from, and how much of it.
    pub fetch: FetchLimits,
    /// How outgoing connections are made.
    pub outbound: Outbound,
    /// How many runs are executed at a time.
    pub at_a_time: u32,
    /// How much room there must be for another run.
    pub disk: DiskLimits,
    /// Which playbooks are executed.
    pub verify: Verification,
    /// What a run may print.
    pub output: OutputLimits,
    /// From SIGTERM to SIGKILL, where a run is ended from outside.
    pub grace: Duration,
    /// How long after the deadline of a run its result is still offered to an unreachable service.
    pub report_for: Duration,
    /// How long a stopping agent waits for the service to take its last report.
    pub stop_within: Duration,
}

impl AgentConfig {
    /// The defaults, in this directory.
    #[must_use]
    pub fn new(work_dir: impl Into<PathBuf>) -> Self {
        Self {
            name: "worker".to_owned(),
            work_dir: work_dir.into(),
            ansible_runner: None,
            fetch: FetchLimits::default(),
            outbound: Outbound::default(),
            at_a_time: 1,
            disk: DiskLimits::default(),
            verify: Verification::default(),
            output: OutputLimits::default(),
            grace: Duration::from_secs(10),
            report_for: Duration::from_secs(3600),
            stop_within: Duration::from_secs(10),
        }
    }
}

/// What a playbook may be fetched from, and how much of it.
#[derive(Clone, Debug)]
pub struct FetchLimits {
    /// To which other hosts than this one plain http is allowed.
    pub plain_http: PlainHttp,
    /// The most bytes of a playbook or bundle.
    pub bytes: u64,
    /// The most bytes a bundle may open to.
    pub opened_bytes: u64,
    /// The most files and directories in a bundle.
    pub entries: u64,
    /// From the first attempt to the last byte.
    pub time: Duration,
    /// How many redirects are followed.
    pub redirects: usize,
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self {
            plain_http: PlainHttp::Never,
            bytes: 64 * 1024 * 1024,
            opened_bytes: 64 * 1024 * 1024,
            entries: 10_000,
            time: Duration::from_secs(60),
            redirects: 3,
        }
    }
}

/// How much room there must be for another run, in bytes; 0: no limit.
#[derive(Clone, Debug, Default)]
pub struct DiskLimits {
    /// The least that must be free where runs are executed.
    pub free_min: u64,
    /// The most that the work directory may hold.
    pub used_max: u64,
}

/// What a run may print.
#[derive(Clone, Debug)]
pub struct OutputLimits {
    /// The most bytes of records; what a playbook prints beyond them is dropped, with one marker.
    pub bytes: u64,
    /// The most hosts whose counts are kept.
    pub hosts: usize,
}

impl Default for OutputLimits {
    fn default() -> Self {
        Self { bytes: 256 * 1024 * 1024, hosts: 50_000 }
    }
}
