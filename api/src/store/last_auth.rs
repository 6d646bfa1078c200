//! When principals were last authenticated. The trait with which times are noted is the tracker's
//! ([`LastAuthSink`]), since its library uses it too; reading them is ours.

use std::collections::BTreeMap;

use async_trait::async_trait;
pub use auth_tracker::ports::{LastAuth, LastAuthSink};
use time::OffsetDateTime;

use super::StoreResult;

/// The newest time of each principal, however often it is named: what a single statement that writes
/// needs, since it must not meet a row twice. In one order, so that two writers cannot block each
/// other.
pub(super) fn newest(times: &[LastAuth]) -> BTreeMap<(&str, &str), OffsetDateTime> {
    let mut newest = BTreeMap::new();
    for LastAuth { kind, id, at } in times {
        let known = newest.entry((kind.as_str(), id.as_str())).or_insert(*at);
        *known = (*known).max(*at);
    }
    newest
}

/// Times of last authentication.
#[async_trait]
pub trait LastAuthStore: LastAuthSink {
    /// The times of principals of one kind, by id; those that were never authenticated are left
    /// out.
    async fn last_auth(
        &self,
        kind: &str,
        ids: &[String],
    ) -> StoreResult<BTreeMap<String, OffsetDateTime>>;
}
