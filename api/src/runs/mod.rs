//! Runs: dispatch, cancel, list, logs, inputs.

pub mod accounts;
pub mod cancel;
pub mod counting;
pub mod dispatch;
pub mod fields;
pub mod hosts;
pub mod idempotency;
pub mod inputs;
pub mod list;
pub mod log;
pub mod model;
pub mod order;
pub mod planning;
pub mod policy;
pub mod routes;
pub mod sending;
pub mod view;
