//! Tests of quadletgen's library that need no host: variables, templates, files.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should panic"
)]

mod environment;
mod files;
mod program;
mod readme;
mod rendering;
mod same_bytes;
mod samples;
mod subset;
mod validation;
