//! Recipients: registry, presence, connection status.

pub mod model;
