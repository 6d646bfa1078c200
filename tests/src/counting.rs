//! A store that counts how often it is asked for what.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use dispatcher_api::{
    execution::model::{
        AppendBatch, AppendOutcome, ClaimRequest, ClaimedWork, Finish, FinishOutcome, Hold,
        StoredInputs, Waiting,
    },
    recipients::model::{Recipient, RecipientSummary},
    runs::model::Rows,
    store::{RecipientStore, StoreResult, Stores, WorkStore},
};
use dispatcher_wire::execution::Doorbell;
use time::OffsetDateTime;
use uuid::Uuid;

/// How often each method was called.
#[derive(Clone, Default)]
pub struct Calls(Arc<Mutex<BTreeMap<&'static str, usize>>>);

impl Calls {
    /// How often this method was called.
    #[must_use]
    pub fn of(&self, method: &str) -> usize {
        let calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        calls.get(method).copied().unwrap_or_default()
    }

    /// Counts what workers ask of these stores.
    #[must_use]
    pub fn wrap(&self, stores: Stores) -> Stores {
        let work = Counting { calls: self.clone(), inner: stores.work };
        let recipients = Counting { calls: self.clone(), inner: stores.recipients };
        Stores { work: Arc::new(work), recipients: Arc::new(recipients), ..stores }
    }

    fn note(&self, method: &'static str) {
        let mut calls = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *calls.entry(method).or_default() += 1;
    }
}

struct Counting<T: ?Sized> {
    calls: Calls,
    inner: Arc<T>,
}

#[async_trait]
impl WorkStore for Counting<dyn WorkStore> {
    async fn claim(&self, request: &ClaimRequest) -> StoreResult<Option<ClaimedWork>> {
        self.calls.note("claim");
        self.inner.claim(request).await
    }

    async fn inputs(&self, hold: Hold) -> StoreResult<Option<StoredInputs>> {
        self.calls.note("inputs");
        self.inner.inputs(hold).await
    }

    async fn doorbells(
        &self,
        waiting: &[Waiting],
        now: OffsetDateTime,
    ) -> StoreResult<BTreeMap<Uuid, Doorbell>> {
        self.calls.note("doorbells");
        self.inner.doorbells(waiting, now).await
    }

    async fn append(&self, hold: Hold, batch: &AppendBatch) -> StoreResult<AppendOutcome> {
        self.calls.note("append");
        self.inner.append(hold, batch).await
    }

    async fn finish(&self, hold: Hold, finish: &Finish) -> StoreResult<FinishOutcome> {
        self.calls.note("finish");
        self.inner.finish(hold, finish).await
    }
}

#[async_trait]
impl RecipientStore for Counting<dyn RecipientStore> {
    async fn register(&self, recipient: &Recipient) -> StoreResult<bool> {
        self.calls.note("register");
        self.inner.register(recipient).await
    }

    async fn seen(&self, recipients: &[Uuid], at: OffsetDateTime) -> StoreResult<()> {
        self.calls.note("seen");
        self.inner.seen(recipients, at).await
    }

    async fn find(&self, ids: &[Uuid]) -> StoreResult<BTreeMap<Uuid, Recipient>> {
        self.calls.note("find");
        self.inner.find(ids).await
    }

    async fn list(
        &self,
        org_id: &str,
        labels: &BTreeMap<String, String>,
        limit: i64,
        offset: i64,
    ) -> StoreResult<Rows<RecipientSummary>> {
        self.calls.note("list");
        self.inner.list(org_id, labels, limit, offset).await
    }
}
