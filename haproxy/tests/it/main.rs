//! HAProxy itself, with the files that the templates make, before small instances of the tests' own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should panic"
)]

mod balancer;
mod client;
mod instance;
mod load;

mod callers;
mod drains;
mod entrance;
mod files;
mod limits;
mod reloads;
mod retries;
mod streams;
