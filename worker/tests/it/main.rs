//! The worker from outside: an agent, a dispatcher that is a file, a web server for playbooks, and
//! ansible-runner, real or played.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests: what fails is to stop the test with its place"
)]

mod ansible;
mod crash;
mod dispatcher;
mod fetching;
mod interruptions;
mod output;
mod player;
mod web;
