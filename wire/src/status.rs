//! The states of a run and of a run host, and which change may follow which.

use serde::{Deserialize, Serialize};

/// The state of a run or of one host's part in it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// Accepted and not final; waiting for its worker counts as running.
    Running,
    /// Ended without a failed or unreachable host.
    Success,
    /// Ended with a failed or unreachable host, or could not be carried out.
    Failure,
    /// Not final when its time was over.
    Timeout,
    /// Ended because somebody asked for it.
    Canceled,
}

impl RunStatus {
    /// Every state, in the order of the database's enumeration.
    pub const ALL: [Self; 5] =
        [Self::Running, Self::Success, Self::Failure, Self::Timeout, Self::Canceled];

    /// The name on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Timeout => "timeout",
            Self::Canceled => "canceled",
        }
    }

    /// The state of that name, if there is one.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// Whether nothing is going on any more. A timeout is final too, though a late result may
    /// still replace it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Running)
    }

    /// Whether `next` may replace this state when the run's own result says so.
    ///
    /// Success and failure stay. A timeout gives way to any other final state, a cancellation only
    /// to the run's own success or failure. Nothing returns to running.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        match self {
            Self::Running => next.is_final(),
            Self::Timeout => matches!(next, Self::Success | Self::Failure | Self::Canceled),
            Self::Canceled => matches!(next, Self::Success | Self::Failure),
            Self::Success | Self::Failure => false,
        }
    }
}

impl std::fmt::Display for RunStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::RunStatus::{self, Canceled, Failure, Running, Success, Timeout};

    #[test]
    fn names_round_trip() {
        for status in RunStatus::ALL {
            assert_eq!(RunStatus::parse(status.as_str()), Some(status));
        }
        assert_eq!(RunStatus::parse("cancelled"), None);
    }

    #[test]
    fn transitions_are_exactly_those_of_the_design() {
        let allowed = [
            (Running, Success),
            (Running, Failure),
            (Running, Timeout),
            (Running, Canceled),
            (Timeout, Success),
            (Timeout, Failure),
            (Timeout, Canceled),
            (Canceled, Success),
            (Canceled, Failure),
        ];
        for from in RunStatus::ALL {
            for to in RunStatus::ALL {
                assert_eq!(from.may_become(to), allowed.contains(&(from, to)), "{from} to {to}");
            }
        }
    }
}
