//! Runs: dispatch, cancel, list, logs, inputs.

pub mod inputs;
pub mod model;
pub mod policy;
