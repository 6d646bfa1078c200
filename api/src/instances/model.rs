//! What is known of a process. Pure.

use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

/// Between two signs of life.
pub const BEAT: Duration = Duration::from_secs(2);
/// After so long without one, a process does not count as living.
pub const LIVE_WITHIN: Duration = Duration::from_secs(6);
/// After so long without one, a process is not shown any more.
pub const SHOWN_WITHIN: Duration = Duration::from_secs(60);

/// What kind of process it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProcessKind {
    /// It answers requests.
    Api,
    /// It gathers keys for the others.
    AuthTracker,
}

impl ProcessKind {
    /// Its name where it is stored or shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::AuthTracker => "auth-tracker",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Api, Self::AuthTracker].into_iter().find(|kind| kind.as_str() == name)
    }
}

/// A process of the service, as it does not change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Instance {
    /// New with every start.
    pub id: Uuid,
    /// What kind of process it is.
    pub kind: ProcessKind,
    /// What people call it.
    pub name: String,
    /// The host it runs on.
    pub host: String,
    /// The version of its program.
    pub version: String,
    /// When it was started.
    pub started_at: OffsetDateTime,
}

/// What changes about a process.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sign {
    /// The version of the keys that it has in force; 0: none yet.
    pub auth_version: u64,
    /// Whether it is about to end.
    pub draining: bool,
}

/// A process that has given a sign of life.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KnownInstance {
    /// What does not change.
    pub instance: Instance,
    /// What it said last.
    pub sign: Sign,
    /// When it said so, on the database's clock.
    pub seen_at: OffsetDateTime,
    /// How long ago that was, on the database's clock.
    pub silent_for: Duration,
}

impl KnownInstance {
    /// Whether it counts as living.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.silent_for <= LIVE_WITHIN
    }
}
