//! What the integration tests and benchmarks share: private services and the service itself as a
//! child process.

pub mod conformance;
pub mod connector;
pub mod counting;
pub mod foreign;
pub mod home;
pub mod postgres;
pub mod process;
pub mod raw;
pub mod rows;
pub mod service;
pub mod worker;
