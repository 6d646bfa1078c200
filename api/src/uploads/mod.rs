//! Uploads: receive, inbox, decompress, validate, apply the job events of foreign hosts.
//!
//! `receive` makes an archive and its row durable before the answer; `applier` claims the row and
//! applies what `update` reads from the archive.

pub mod applier;
pub mod decode;
pub mod list;
pub mod log;
pub mod model;
pub mod receive;
pub mod routes;
pub mod state;
pub mod token;
pub mod update;
pub mod validate;
