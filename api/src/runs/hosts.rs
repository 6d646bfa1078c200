//! The list of run hosts (contract §1.11).

use serde_json::Value;
use time::OffsetDateTime;

use super::{
    fields::Fields,
    model::{Rows, RunHostFilter, RunHostQuery},
};
use crate::store::{RunStore, StoreResult};

/// The most output of a host that is not final yet that an answer carries, in bytes; the log route
/// has all of it.
const STDOUT_CAP: usize = 1024 * 1024;
/// The most output of hosts that are not final yet that one page carries, in bytes.
const PAGE_STDOUT_CAP: usize = 50 * STDOUT_CAP;

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
    STDOUT_CAP.min(PAGE_STDOUT_CAP / hosts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_bounded_however_many_hosts_it_has() {
        assert_eq!(log_cap(1), STDOUT_CAP);
        assert_eq!(log_cap(50), STDOUT_CAP);
        assert_eq!(log_cap(200), STDOUT_CAP / 4);
        assert_eq!(log_cap(-1), STDOUT_CAP);
    }
}
