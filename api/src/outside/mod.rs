//! Services outside that this one asks over HTTP: one way to call them, with a limit on everything.
//!
//! [`call`] is that way, for the connectors too. What a service's answers mean is the business of the
//! file named after it.

pub mod call;
pub mod inventory;
pub mod rbac;
pub mod sources;
pub mod tenants;
