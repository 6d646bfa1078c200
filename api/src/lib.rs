//! The dispatcher service: accepts "run this playbook on that recipient", tracks every run and
//! every host in it to a final state, streams its output, and tells others.
//!
//! A folder per capability, each with the same rooms: `routes.rs` (HTTP in and out), logic in files
//! named after what they do, `model.rs` (types). [`app`] and the binary alone know which adapter is
//! in use. Data flows one way:
//!
//! ```text
//! http → runs, recipients, execution, uploads, playbooks → store, storage, bus, connector (traits)
//!                                                            └ adapters: postgres, sqlite, …
//! ```

pub mod app;
pub mod audit;
pub mod auth;
pub mod bus;
pub mod cleaner;
pub mod commands;
pub mod config;
pub mod connector;
pub mod events;
pub mod execution;
pub mod http;
pub mod instances;
pub mod keyring;
pub mod keys;
pub mod outside;
pub mod playbooks;
pub mod recipients;
pub mod request;
pub mod runs;
pub mod storage;
pub mod store;
pub mod systemd;
pub mod tls;
pub mod uploads;
