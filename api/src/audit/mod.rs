//! The audit log: a row for every change that a person or a key makes, written in the transaction
//! that makes the change.

pub mod list;
pub mod model;
pub mod routes;
