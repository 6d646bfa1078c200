//! Recipients: registry, presence, connection status.

pub mod connection;
pub mod facts;
pub mod labels;
pub mod list;
pub mod model;
pub mod registration;
pub mod routes;
pub mod status;
pub mod systems;
pub mod token;
