//! HTTP: the one page of routes, extractors, errors, pagination, filters.

pub mod extract;
pub mod health;
pub mod json;
pub mod layers;
pub mod lifecycle;
pub mod links;
pub mod listen;
pub mod metrics;
pub mod openapi;
pub mod parameters;
pub mod peer;
pub mod problem;
mod pulse;
pub mod query;
pub mod request_id;
pub mod router;
pub mod schema;
pub mod server;
pub mod source;
mod unread;
pub mod waiting;
