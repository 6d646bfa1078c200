//! What the integration tests and benchmarks share: private services and the service itself as a
//! child process.

pub mod process;
