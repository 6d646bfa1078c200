//! Stored playbooks: files and bundles, put by clients and served by signed addresses.
//!
//! A name of an organisation points at content; a run's address names the content itself, so that
//! replacing a playbook changes no run that waits.

pub mod address;
pub mod bundle;
pub mod content;
pub mod list;
pub mod model;
pub mod put;
pub mod routes;
pub mod sweep;
