//! The list of run hosts (contract §1.11).

pub mod routes;

use serde_json::Value;
use time::OffsetDateTime;

use super::{
    fields::Fields,
    model::{Rows, RunHostFilter, RunHostQuery},
};
use crate::store::{RunStore, StoreResult};

/// What the output of all hosts of a page may take together, in bytes; the log routes have all.
const PAGE_STDOUT_CAP: usize = 64 * 1024 * 1024;
/// What a host's output may take however large the page is, in bytes.
const STDOUT_CAP_FLOOR: usize = 64 * 1024;

/// Which part of which list, and with what.
#[derive(Clone, Debug)]
pub struct HostListing {
    /// Which hosts.
    pub filter: RunHostFilter,
    /// What is shown of each.
    pub fields: Fields,
    /// 1 to 200.
    pub limit: i64,
    /// From 0.
    pub offset: i64,
    /// The time at which expiry is judged.
    pub now: OffsetDateTime,
}

/// A page of run hosts with the selected fields.
///
/// # Errors
/// When the database fails.
pub async fn list(store: &dyn RunStore, listing: HostListing) -> StoreResult<Rows<Value>> {
    let HostListing { filter, fields, limit, offset, now } = listing;
    let with_log = fields.shows("stdout");
    let query = RunHostQuery { filter, with_log, log_cap: log_cap(limit), limit, offset, now };
    let Rows { rows, total } = store.list_hosts(&query).await?;
    let rows = rows.into_iter().map(|host| fields.write_run_host(host)).collect();
    Ok(Rows { rows, total })
}

/// Large pages get less of each host, so that memory stays bounded.
fn log_cap(limit: i64) -> usize {
    let hosts = usize::try_from(limit).unwrap_or(1).max(1);
    STDOUT_CAP_FLOOR.max(PAGE_STDOUT_CAP / hosts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_bounded_however_many_hosts_it_has() {
        assert_eq!(log_cap(1), PAGE_STDOUT_CAP);
        assert_eq!(log_cap(50), PAGE_STDOUT_CAP / 50);
        assert_eq!(log_cap(200), PAGE_STDOUT_CAP / 200);
        assert_eq!(log_cap(5000), STDOUT_CAP_FLOOR);
        assert_eq!(log_cap(-1), PAGE_STDOUT_CAP);
    }
}
