//! Recipients: registry, presence, connection status.

pub mod list;
pub mod model;
pub mod routes;
pub mod status;
