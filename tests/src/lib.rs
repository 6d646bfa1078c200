//! What the integration tests and benchmarks share: private services and the service itself as a
//! child process.

pub mod counting;
pub mod process;
pub mod service;
pub mod worker;
