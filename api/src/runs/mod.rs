//! Runs: dispatch, cancel, list, logs, inputs.

pub mod model;
