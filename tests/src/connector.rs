//! A connector that does what a test tells it, and remembers what it was asked.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use dispatcher_api::{
    connector::{Connector, SendError},
    runs::model::{NewRun, RunRow},
};
use tokio::sync::Semaphore;
use uuid::Uuid;

/// Accepts everything that no error was set for. Sends wait while the gate is closed.
pub struct ScriptedConnector {
    errors: Mutex<BTreeMap<Uuid, SendError>>,
    sent: Mutex<Vec<Uuid>>,
    gate: Semaphore,
    under_way: AtomicUsize,
    most_under_way: AtomicUsize,
}

impl ScriptedConnector {
    /// With an open gate.
    #[must_use]
    pub fn open() -> Arc<Self> {
        Self::with_gate(Semaphore::MAX_PERMITS)
    }

    /// With a closed gate.
    #[must_use]
    pub fn closed() -> Arc<Self> {
        Self::with_gate(0)
    }

    fn with_gate(permits: usize) -> Arc<Self> {
        Arc::new(Self {
            errors: Mutex::default(),
            sent: Mutex::default(),
            gate: Semaphore::new(permits),
            under_way: AtomicUsize::new(0),
            most_under_way: AtomicUsize::new(0),
        })
    }

    /// Opens the gate for this many sends.
    pub fn let_through(&self, sends: usize) {
        self.gate.add_permits(sends);
    }

    /// From now on everything to this recipient fails so.
    pub fn fail(&self, recipient: Uuid, error: SendError) {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).insert(recipient, error);
    }

    /// The runs that were sent, in order of arrival at the gate.
    pub fn sent(&self) -> Vec<Uuid> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many sends were under way at once.
    pub fn most_under_way(&self) -> usize {
        self.most_under_way.load(Ordering::SeqCst)
    }

    fn result(&self, recipient: Uuid) -> Result<(), SendError> {
        let errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        errors.get(&recipient).cloned().map_or(Ok(()), Err)
    }
}

#[async_trait]
impl Connector for ScriptedConnector {
    async fn send(&self, run: &NewRun) -> Result<(), SendError> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(run.id);
        let under_way = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_under_way.fetch_max(under_way, Ordering::SeqCst);
        let closed = |_| SendError::Ambiguous("the gate is gone".to_owned());
        self.gate.acquire().await.map_err(closed)?.forget();
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        self.result(run.recipient)
    }

    async fn cancel(&self, run: &RunRow, _principal: &str) -> Result<(), SendError> {
        self.result(run.recipient)
    }

    async fn is_connected(&self, _org_id: &str, recipient: Uuid) -> Result<bool, SendError> {
        self.result(recipient).map(|()| true)
    }
}
