//! What the integration tests and benchmarks share: private services and the service itself as a
//! child process.

pub mod authority;
pub mod conformance;
pub mod connector;
pub mod counting;
pub mod foreign;
pub mod guarded;
pub mod home;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod raw;
pub mod redis;
pub mod rows;
pub mod service;
pub mod worker;
