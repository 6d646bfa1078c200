//! Execution: what workers call (claim, events, finish), and how a run's outcome follows from it.

pub mod excerpt;
pub mod model;
pub mod outcome;
