//! Who calls, and what they may do: principals, ways in, permissions.

pub mod identity;
pub mod known_workers;
pub mod lookups;
pub mod principal;
pub mod psk;
pub mod sources;
pub mod worker_key;
