//! Uploads: receive, inbox, decompress, validate, apply the job events of foreign hosts.

pub mod model;
pub mod token;
