//! The authentication state that instances share (decision 12): who may call, and with which keys.
//!
//! [`sources`] fetch it (keys of the SSO server, digests of pre-shared keys), `reconcile` makes one
//! [`state::AuthState`] of what they said (pure), [`snapshot`] seals it, `redis` keeps the sealed
//! form where every instance finds it. The sidecar runs the loop; an instance that has no Redis, or
//! whose Redis is silent, runs the same sources itself.
//!
//! What the database says comes through the traits of [`ports`]; this crate knows no SQL.

pub mod addresses;
pub mod clock;
pub mod drain;
pub mod feed;
pub mod last_auth;
pub mod layout;
mod measures;
pub mod ports;
pub mod reconcile;
pub mod redis;
pub mod snapshot;
pub mod sources;
pub mod state;
pub mod tracker;
