//! Executes runs with ansible-runner and streams their events into a sink.
//!
//! A library: the service embeds it as its local worker, and the agent on other hosts
//! (`dispatcher-worker`) is a thin program around it. It knows nothing of HTTP servers or databases;
//! the two traits of [`link`] are all it needs from the other side, and [`http`] has them for a
//! worker on another host, as who it is known by [`identity`].
//!
//! `agent` (recover, wait, claim) → `execute` (one run: `journal`, `fetch` and `unpack`, `prepare`,
//! `process`) → `events` (its output into the `spool`) → `stream` (the spool into the service).

pub mod agent;
pub mod ansible;
pub mod config;
pub mod crash;
pub mod disk;
pub mod http;
pub mod identity;
pub mod journal;
pub mod link;
pub mod outbound;
pub mod plain_http;
pub mod status;
pub mod verify;

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

pub use agent::{Activity, AgentError, Link, run, run_watched};
pub use config::AgentConfig;
