//! The wired service: everything that handlers and loops share. Adapters are chosen here and in the
//! binary, nowhere else.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::{
    auth::psk::PskTable,
    bus::Wakeups,
    config::Settings,
    connector::Connector,
    execution::Execution,
    http::{lifecycle::Lifecycle, request_id::RequestIds},
    keyring::Keyring,
    storage::Objects,
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
    /// Every setting.
    pub settings: Arc<Settings>,
    /// The keys of services.
    pub services: Arc<PskTable>,
    /// Where the process is in its life.
    pub lifecycle: Arc<Lifecycle>,
    /// Ids of requests.
    pub request_ids: Arc<RequestIds>,
    /// Cancelled when streams and loops are to end.
    pub shutdown: CancellationToken,
}
