//! Where things are in Redis. The names of last-authentication keys are those that existing tools
//! know (contract §8 of the DCI control server); the rest is ours.

/// The sealed snapshot, as [`crate::snapshot::Snapshot`] writes it.
pub const SNAPSHOT: &str = "dispatcher:auth:snapshot";
/// The version of the snapshot, alone: what instances read twice a second.
pub const VERSION: &str = "dispatcher:auth:version";
/// The channel on which a new version is announced; a hint only.
pub const CHANGED: &str = "dispatcher:auth:changed";
/// Set by whoever met a key id that nobody knows: asks the tracker to fetch the SSO server's keys.
/// It goes by itself, and as long as it is there nobody can ask again.
pub const REFETCH: &str = "dispatcher:auth:refetch";
/// The channel on which the tracker is told to look at once; a hint only.
pub const WANTED: &str = "dispatcher:auth:wanted";

/// Names of last-authentication keys that are not in the database yet.
pub const DIRTY: &str = "dirty_last_auth_keys";
/// What a set of such names is called while it is being written: this and the epoch second.
pub const SYNCING: &str = "sync_last_auth_keys:";
/// What it is called when writing failed: this and the epoch second.
pub const FAILED: &str = "sync_last_auth_keys:failed:";

/// The key with the epoch second of somebody's last authentication.
#[must_use]
pub fn last_auth(kind: &str, id: &str) -> String {
    format!("last_auth:{kind}:{id}")
}
