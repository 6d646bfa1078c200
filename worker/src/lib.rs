//! Executes runs with ansible-runner and streams their events into a sink.
//!
//! A library: the service embeds it as its local worker, and the agent on other hosts is a thin
//! program around it. It knows nothing of HTTP servers or databases; the two traits of [`link`] are
//! all it needs from the other side.
//!
//! `agent` (recover, wait, claim) → `execute` (one run: `journal`, `fetch` and `unpack`, `prepare`,
//! `process`) → `events` (its output into the `spool`) → `stream` (the spool into the service).

pub mod agent;
pub mod ansible;
pub mod config;
pub mod crash;
pub mod journal;
pub mod link;

mod backoff;
mod cgroup;
mod doorbell;
mod ending;
mod events;
mod execute;
mod fetch;
mod prepare;
mod process;
mod recover;
mod spool;
mod stream;
mod tree;
mod unpack;
mod vars;

pub use agent::{AgentError, Link, run};
pub use config::AgentConfig;
