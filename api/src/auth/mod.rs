//! Who calls, and what they may do: principals, ways in, permissions.
//!
//! [`current`] is the state in force, which [`psk`] and [`sso`] check by; [`identity`] reads the
//! header of trusted gateways, [`worker_key`] and [`known_workers`] are for workers. [`attempts`]
//! counts who was refused. [`access`] asks RBAC which runs a person may look at; [`permissions`] says
//! what its answers mean.

pub mod access;
pub mod attempts;
pub mod caller;
pub mod current;
pub mod feeding;
pub mod identity;
pub mod known_workers;
pub mod lookups;
pub mod permissions;
pub mod principal;
pub mod providers;
pub mod psk;
pub mod recent;
pub mod routes;
pub mod shared_answers;
pub mod sources;
pub mod sso;
pub mod worker_key;
