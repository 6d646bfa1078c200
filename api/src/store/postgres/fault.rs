//! What can go wrong on the way to PostgreSQL, and which of it is worth another try.
//!
//! Texts carry the server's message and code, never its details: those may quote values.

use deadpool_postgres::PoolError;
use tokio_postgres::error::SqlState;

use crate::store::StoreError;

/// How a failure is answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// Two transactions were in each other's way; this one was undone and may be repeated.
    Conflict,
    /// The server takes no writes any more; nothing was done.
    ReadOnly,
    /// The server ends, or does not answer any more.
    Ending,
    /// The server is not there, not ready, or too slow.
    Unavailable,
    /// Something that must not happen.
    Failed,
}

/// A failed statement or connection.
#[derive(Debug)]
pub(super) struct Fault {
    kind: Kind,
    text: String,
    constraint: Option<String>,
}

impl Fault {
    /// Something in the database that must not be.
    pub(super) fn broken(text: impl Into<String>) -> Self {
        Self { kind: Kind::Failed, text: text.into(), constraint: None }
    }

    /// The server did not answer in time.
    pub(super) fn late(text: impl Into<String>) -> Self {
        Self { kind: Kind::Unavailable, text: text.into(), constraint: None }
    }

    /// The server does not answer at all.
    pub(super) fn frozen() -> Self {
        let text = "it did not answer in time".to_owned();
        Self { kind: Kind::Ending, text, constraint: None }
    }

    /// Whether the transaction may be repeated as it is, since nothing of it was done.
    pub(super) fn may_be_repeated(&self) -> bool {
        matches!(self.kind, Kind::Conflict | Kind::ReadOnly)
    }

    /// Whether other connections to that server are of no use either.
    pub(super) fn is_about_the_server(&self) -> bool {
        matches!(self.kind, Kind::ReadOnly | Kind::Ending)
    }

    /// Whether a row of that key was there already.
    pub(super) fn violates(&self, constraint: &str) -> bool {
        self.constraint.as_deref() == Some(constraint)
    }
}

impl From<Fault> for StoreError {
    fn from(fault: Fault) -> Self {
        match fault.kind {
            Kind::Conflict | Kind::ReadOnly | Kind::Ending | Kind::Unavailable => {
                Self::Unavailable(fault.text)
            }
            Kind::Failed => Self::Failed(fault.text),
        }
    }
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(answer) = error.as_db_error() else {
            let kind = if is_about_the_way(&error) { Kind::Unavailable } else { Kind::Failed };
            return Self { kind, text: with_causes(&error), constraint: None };
        };
        Self {
            kind: kind_of(answer.code()),
            text: format!("{} (SQLSTATE {})", answer.message(), answer.code().code()),
            constraint: answer.constraint().map(str::to_owned),
        }
    }
}

impl From<PoolError> for Fault {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Backend(error) => Self::late(connecting(&error)),
            PoolError::Timeout(_) => Self::late("no connection became free in time"),
            other => Self::late(other.to_string()),
        }
    }
}

/// Why a connection was not made: whatever it is, it may be mended without us.
pub(super) fn connecting(error: &tokio_postgres::Error) -> String {
    error.as_db_error().map_or_else(
        || with_causes(error),
        |answer| format!("{} (SQLSTATE {})", answer.message(), answer.code().code()),
    )
}

/// The connection, its making or its end, as opposed to a value that does not fit a column.
fn is_about_the_way(error: &tokio_postgres::Error) -> bool {
    use std::error::Error as _;
    let of_io = error.source().is_some_and(|cause| cause.is::<std::io::Error>());
    error.is_closed() || of_io || error.to_string() == "timeout waiting for server"
}

fn kind_of(code: &SqlState) -> Kind {
    if [SqlState::T_R_SERIALIZATION_FAILURE, SqlState::T_R_DEADLOCK_DETECTED].contains(code) {
        return Kind::Conflict;
    }
    if code == &SqlState::READ_ONLY_SQL_TRANSACTION {
        return Kind::ReadOnly;
    }
    // Shut down by an operator or a crash, or not up yet.
    if code.code().starts_with("57P0") {
        return Kind::Ending;
    }
    // Connection exceptions, insufficient resources, operator intervention (57014: the statement
    // timeout), a lock that did not come.
    let passing = ["08", "53", "57", "55P03"];
    if passing.iter().any(|prefix| code.code().starts_with(prefix)) {
        return Kind::Unavailable;
    }
    Kind::Failed
}

fn with_causes(error: &tokio_postgres::Error) -> String {
    use std::error::Error as _;
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_tell_whether_to_try_again() {
        for (code, kind) in [
            ("40001", Kind::Conflict),
            ("40P01", Kind::Conflict),
            ("08006", Kind::Unavailable),
            ("57P01", Kind::Ending),
            ("57P03", Kind::Ending),
            ("57014", Kind::Unavailable),
            ("53300", Kind::Unavailable),
            ("55P03", Kind::Unavailable),
            ("25006", Kind::ReadOnly),
            ("23505", Kind::Failed),
            ("42P01", Kind::Failed),
            ("22021", Kind::Failed),
        ] {
            assert_eq!(kind_of(&SqlState::from_code(code)), kind, "{code}");
        }
    }
}
