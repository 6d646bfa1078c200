//! What the integration tests and benchmarks share: private services and the service itself as a
//! child process.

pub mod account;
pub mod agent;
pub mod agent_home;
pub mod authority;
pub mod caller;
pub mod cluster;
pub mod conformance;
pub mod connector;
pub mod consumer;
pub mod counting;
mod device;
pub mod foreign;
pub mod guarded;
pub mod haproxy;
pub mod home;
pub mod jwt;
pub mod load;
pub mod oidc;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod rabbitmq;
pub mod raw;
pub mod redis;
pub mod rows;
pub mod s3;
pub mod service;
pub mod statements;
pub mod steady;
pub mod stub;
pub mod supervisor;
pub mod tls_listener;
pub mod tracker;
pub mod worker;
