//! The processes of one service: each says every two seconds that it lives, which version it is and
//! which keys it has in force, so that operators see them and a revocation can be confirmed.

pub mod heartbeat;
pub mod list;
pub mod model;
pub mod routes;
