//! Uploads: receive, inbox, decompress, validate, apply the job events of foreign hosts.

pub mod decode;
pub mod log;
pub mod model;
pub mod state;
pub mod token;
pub mod update;
pub mod validate;
