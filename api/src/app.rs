//! The wired service: everything that handlers and loops share. Adapters are chosen here and in the
//! binary, nowhere else.

use std::sync::Arc;

use crate::{
    bus::Wakeups, connector::Connector, execution::Execution, keyring::Keyring, storage::Objects,
    store::Stores,
};

/// What every part of one process shares.
#[derive(Clone)]
pub struct App {
    /// The database.
    pub stores: Stores,
    /// The object store.
    pub objects: Objects,
    /// Wake-ups within the process.
    pub wakeups: Wakeups,
    /// The shared secrets.
    pub keyring: Arc<Keyring>,
    /// What workers may do.
    pub execution: Arc<Execution>,
    /// The way to foreign hosts; `None` when off.
    pub connector: Option<Arc<dyn Connector>>,
}
