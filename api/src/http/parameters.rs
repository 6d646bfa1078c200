//! What the lists can be filtered, paged and sorted by: the tables by which queries are checked
//! ([`super::query`]), and from which the documents are made ([`super::openapi`]). Pure.

use dispatcher_wire::RunStatus;

/// One member of `filter`.
#[derive(Clone, Copy, Debug)]
pub struct FilterSpec {
    /// Its name inside the brackets.
    pub name: &'static str,
    /// The name of its schema in the documents, where it has one.
    pub component: Option<&'static str>,
    /// The only values it may have; empty: any.
    pub allowed: &'static [&'static str],
    /// Whether it may be empty as far as its shape goes.
    pub may_be_empty: bool,
}

impl FilterSpec {
    /// The state of a run or run host.
    pub const STATUS: Self = Self {
        name: "status",
        component: Some("StatusNullable"),
        allowed: &STATES,
        may_be_empty: false,
    };
    /// The service of a run.
    pub const SERVICE: Self = Self {
        name: "service",
        component: Some("ServiceNullable"),
        allowed: &[],
        may_be_empty: false,
    };
}

const STATES: [&str; 5] = [
    RunStatus::Running.as_str(),
    RunStatus::Success.as_str(),
    RunStatus::Failure.as_str(),
    RunStatus::Timeout.as_str(),
    RunStatus::Canceled.as_str(),
];

/// What a list can be filtered by.
#[derive(Clone, Copy, Debug)]
pub struct Filters {
    /// The members that are checked and bound.
    pub members: &'static [FilterSpec],
    /// Whether `filter[labels][…]` is one, whatever the label.
    pub labels: bool,
    /// The members of `filter[run][…]`. Their values are checked where they are used.
    pub run: Option<&'static Self>,
}

impl Filters {
    /// Whether a member has members of its own.
    #[must_use]
    pub fn is_nested(&self, member: &str) -> bool {
        member == "labels" && self.labels || member == "run" && self.run.is_some()
    }
}

/// A whole number that is a parameter.
#[derive(Clone, Copy, Debug)]
pub struct IntegerSpec {
    /// Its name.
    pub name: &'static str,
    /// The least.
    pub min: i64,
    /// The most.
    pub max: Option<i64>,
    /// What counts when it is not given.
    pub default: i64,
}

/// How many items a page has.
pub const LIMIT: IntegerSpec = IntegerSpec { name: "limit", min: 1, max: Some(200), default: 50 };
/// How many items come before a page.
pub const OFFSET: IntegerSpec = IntegerSpec { name: "offset", min: 0, max: None, default: 0 };

/// The oldest first.
pub const OLDEST_FIRST: &str = "created_at:asc";
/// The newest first, which is what counts when nothing is said.
pub const NEWEST_FIRST: &str = "created_at:desc";
/// The orders of runs.
pub const SORT_ORDERS: [&str; 3] = ["created_at", OLDEST_FIRST, NEWEST_FIRST];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_can_be_filtered_by() {
        assert_eq!(FilterSpec::STATUS.allowed, RunStatus::ALL.map(RunStatus::as_str));
    }
}
