//! Stored playbooks: files and bundles, put by clients and served by signed addresses.

pub mod address;
pub mod bundle;
pub mod model;
