//! Runs: dispatch, cancel, list, logs, inputs.

pub mod dispatch;
pub mod idempotency;
pub mod inputs;
pub mod model;
pub mod planning;
pub mod policy;
pub mod sending;
