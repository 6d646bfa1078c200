//! Uploads: receive, inbox, decompress, validate, apply the job events of foreign hosts.
//!
//! `receive` makes an archive and its row durable before the answer; `applier` claims the row and
//! applies what `update` reads from the archive. Events of hosts are checked by `validate` and judged
//! by `state` and `log`; those of Satellites by `satellite_events` and `satellite_report`, then by
//! `satellite` and `progress` beside what is stored.

pub mod applier;
pub mod counting;
pub mod decode;
mod line;
pub mod list;
pub mod log;
pub mod model;
pub mod progress;
pub mod receive;
pub mod routes;
pub mod satellite;
pub mod satellite_events;
pub mod satellite_report;
pub mod state;
pub mod token;
pub mod update;
pub mod validate;
