//! Executes runs with ansible-runner and streams their events into a sink.
//!
//! A library: the service embeds it as its local worker, and the agent on other hosts is a thin
//! program around it. It knows nothing of HTTP servers or databases; the two traits of [`link`] are
//! all it needs from the other side.

pub mod crash;
pub mod link;
