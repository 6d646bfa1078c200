//! systemd over D-Bus: jobs awaited to their end, units and what they are doing, daemon-reload.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::timeout;
use zbus::{Connection, wire::OwnedObjectPath};

/// What systemd did not do.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// It cannot be reached.
    #[error("systemd cannot be reached over D-Bus: {0}; {advice}", advice = advice(*.1))]
    Unreachable(zbus::Error, bool),
    /// A call was refused.
    #[error("systemd refused to {what}: {source}")]
    Refused {
        /// What was asked.
        what: String,
        /// What it said.
        source: zbus::Error,
    },
    /// A job ended otherwise than done.
    #[error("{unit} did not {verb}: systemd's job ended with `{result}`")]
    Job {
        /// Whose job.
        unit: String,
        /// What it was to do.
        verb: &'static str,
        /// How it ended.
        result: String,
    },
    /// A job did not end in time.
    #[error("{unit} did not {verb} within {} s", .limit.as_secs())]
    Late {
        /// Whose job.
        unit: String,
        /// What it was to do.
        verb: &'static str,
        /// How long it had.
        limit: Duration,
    },
}

const fn advice(is_user: bool) -> &'static str {
    if is_user {
        "log in as that user through systemd (ssh, machinectl shell), or set XDG_RUNTIME_DIR=/run/user/UID"
    } else {
        "run as root on a host that was booted with systemd, or use --user for a user's own deployment"
    }
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;
    fn reload(&self) -> zbus::Result<()>;
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn reload_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn list_units_by_patterns(
        &self,
        states: &[&str],
        patterns: &[&str],
    ) -> zbus::Result<Vec<Listed>>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn version(&self) -> zbus::fdo::Result<String>;
    #[zbus(signal)]
    fn job_removed(
        &self,
        id: u32,
        job: OwnedObjectPath,
        unit: String,
        result: String,
    ) -> zbus::Result<()>;
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Unit",
    default_service = "org.freedesktop.systemd1"
)]
trait Unit {
    #[zbus(property(emits_changed_signal = "false"))]
    fn load_state(&self) -> zbus::fdo::Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn active_state(&self) -> zbus::fdo::Result<String>;
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Service",
    default_service = "org.freedesktop.systemd1"
)]
trait Service {
    #[zbus(property(emits_changed_signal = "false"), name = "MainPID")]
    fn main_pid(&self) -> zbus::fdo::Result<u32>;
}

type Listed =
    (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

/// What a job does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verb {
    /// Begin, or go on.
    Start,
    /// End.
    Stop,
    /// Begin anew.
    Restart,
    /// Read its files again.
    Reload,
}

impl Verb {
    const fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Reload => "reload",
        }
    }
}

/// What a unit is doing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Activity {
    /// It runs.
    Active,
    /// On its way there, or between two attempts.
    Activating,
    /// On its way to its end: an instance that drains still answers what it has begun.
    Deactivating,
    /// It ended badly.
    Failed,
    /// Anything else: it does not run.
    Inactive,
}

impl Activity {
    fn of(word: &str) -> Self {
        match word {
            "active" | "reloading" | "refreshing" => Self::Active,
            "activating" => Self::Activating,
            "deactivating" => Self::Deactivating,
            "failed" => Self::Failed,
            _ => Self::Inactive,
        }
    }

    /// Its name, as systemd says it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Activating => "activating",
            Self::Deactivating => "deactivating",
            Self::Failed => "failed",
            Self::Inactive => "inactive",
        }
    }
}

/// A unit of a pattern.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found {
    /// Its name.
    pub unit: String,
    /// What it is doing.
    pub activity: Activity,
}

/// The service manager of the system, or of a user.
#[derive(Clone, Debug)]
pub struct Systemd {
    connection: Connection,
    manager: ManagerProxy<'static>,
}

impl Systemd {
    /// Connects to it.
    ///
    /// # Errors
    /// When its bus does not answer.
    pub async fn connect(is_user: bool) -> Result<Self, SystemdError> {
        let unreachable = |error| SystemdError::Unreachable(error, is_user);
        let connection =
            if is_user { Connection::session().await } else { Connection::system().await };
        let connection = connection.map_err(unreachable)?;
        let manager = ManagerProxy::builder(&connection)
            .cache_properties(zbus::proxy::CacheProperties::No)
            .build()
            .await
            .map_err(unreachable)?;
        manager.subscribe().await.map_err(unreachable)?;
        Ok(Self { connection, manager })
    }

    /// Its version, as it says it.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn version(&self) -> Result<String, SystemdError> {
        self.manager.version().await.map_err(|error| refused("say its version", error.into()))
    }

    /// Reads all unit files anew, generators included.
    ///
    /// # Errors
    /// When systemd refuses.
    pub async fn daemon_reload(&self) -> Result<(), SystemdError> {
        self.manager
            .reload()
            .await
            .map_err(|error| refused("read its unit files (daemon-reload)", error))
    }

    /// Has a unit do something and waits until that is done.
    ///
    /// # Errors
    /// When systemd refuses, the job fails, or it does not end in time.
    pub async fn job(&self, verb: Verb, unit: &str, limit: Duration) -> Result<(), SystemdError> {
        let failed = |error| refused(&format!("{} {unit}", verb.word()), error);
        let mut ended = self.manager.receive_job_removed().await.map_err(failed)?;
        let job = match verb {
            Verb::Start => self.manager.start_unit(unit, "replace").await,
            Verb::Stop => self.manager.stop_unit(unit, "replace").await,
            Verb::Restart => self.manager.restart_unit(unit, "replace").await,
            Verb::Reload => self.manager.reload_unit(unit, "replace").await,
        }
        .map_err(failed)?;
        let result = async {
            while let Some(signal) = ended.next().await {
                let arguments = signal.args().map_err(failed)?;
                if *arguments.job() == job {
                    return Ok(arguments.result().clone());
                }
            }
            Err(failed(zbus::Error::Failure("the bus was closed".to_owned())))
        };
        let late =
            |_elapsed| SystemdError::Late { unit: unit.to_owned(), verb: verb.word(), limit };
        let result = timeout(limit, result).await.map_err(late)??;
        if result == "done" {
            return Ok(());
        }
        Err(SystemdError::Job { unit: unit.to_owned(), verb: verb.word(), result })
    }

    /// Forgets that a unit has failed; of no unit it knows, nothing is to be forgotten.
    pub async fn forget_failure(&self, unit: &str) {
        let _unknown = self.manager.reset_failed_unit(unit).await;
    }

    /// The units whose names fit the pattern and that systemd has in memory.
    ///
    /// # Errors
    /// When systemd does not answer.
    pub async fn list(&self, pattern: &str) -> Result<Vec<Found>, SystemdError> {
        let what = || format!("list {pattern}");
        let listed = self.manager.list_units_by_patterns(&[], &[pattern]).await;
        let listed = listed.map_err(|error| refused(&what(), error))?;
        Ok(listed
            .into_iter()
            .map(|unit| Found { activity: Activity::of(&unit.3), unit: unit.0 })
            .collect())
    }

    /// What a unit is doing; nothing where there is no such unit.
    ///
    /// # Errors
    /// When systemd does not answer.
    pub async fn activity(&self, unit: &str) -> Result<Option<Activity>, SystemdError> {
        let failed = |error| refused(&format!("tell of {unit}"), error);
        let path = self.manager.load_unit(unit).await.map_err(failed)?;
        let proxy = UnitProxy::builder(&self.connection)
            .path(path)
            .cache_properties(zbus::proxy::CacheProperties::No)
            .build()
            .await
            .map_err(failed)?;
        let activity =
            Activity::of(&proxy.active_state().await.map_err(|error| failed(error.into()))?);
        let load = proxy.load_state().await.map_err(|error| failed(error.into()))?;
        Ok((load != "not-found" || activity != Activity::Inactive).then_some(activity))
    }
}

impl Systemd {
    /// The command line of a service's main process, by words; nothing where none runs.
    ///
    /// # Errors
    /// When systemd does not answer.
    pub async fn command_line(&self, unit: &str) -> Result<Vec<String>, SystemdError> {
        let failed = |error| refused(&format!("tell of {unit}"), error);
        let path = self.manager.load_unit(unit).await.map_err(failed)?;
        let proxy = ServiceProxy::builder(&self.connection)
            .path(path)
            .cache_properties(zbus::proxy::CacheProperties::No)
            .build()
            .await
            .map_err(failed)?;
        let pid = proxy.main_pid().await.map_err(|error| failed(error.into()))?;
        // It may have ended meanwhile.
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words = words.split(|byte| *byte == 0).filter(|word| !word.is_empty());
        Ok(words.map(|word| String::from_utf8_lossy(word).into_owned()).collect())
    }
}

fn refused(what: &str, source: zbus::Error) -> SystemdError {
    SystemdError::Refused { what: what.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::Activity;

    #[test]
    fn a_unit_that_ends_is_not_taken_for_one_at_rest() {
        for word in ["active", "activating", "deactivating", "failed", "inactive"] {
            assert_eq!(Activity::of(word).word(), word);
        }
        assert_eq!(Activity::of("reloading"), Activity::Active);
        assert_eq!(Activity::of("refreshing"), Activity::Active);
    }
}
