//! Events: changes of runs and run hosts, as consumers get them. Rows are written by the stores;
//! here they are made into messages and handed to a broker, one instance at a time, and to
//! whoever reads the feed.

pub mod feed;
pub mod message;
pub mod model;
pub mod publisher;
pub mod read;
pub mod routes;
pub mod sse;
