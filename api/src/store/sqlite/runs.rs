//! [`RunStore`] on SQLite: which transaction each intention takes. The work is in `create`,
//! `cancel`, `lists` and `logs`.

use std::sync::Arc;

use async_trait::async_trait;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    super::{RunStore, StoreResult},
    Store, cancel,
    connection::Points,
    create, lists, logs,
};
use crate::{
    audit::model::{Actor, AuditEntry},
    runs::model::{
        CancelOutcome, CancelRequest, CreateOutcome, IdempotencyKey, LogSlice, NewRun, Rows,
        RunDetail, RunHostQuery, RunHostRow, RunQuery, RunRow, SendOutcome, StoredAnswer,
    },
};

#[async_trait]
impl RunStore for Store {
    async fn create(
        &self,
        runs: &[NewRun],
        key: Option<&IdempotencyKey>,
        audit: &[AuditEntry],
    ) -> StoreResult<CreateOutcome> {
        let (runs, key, audit) = (runs.to_vec(), key.cloned(), audit.to_vec());
        let points = Points("store.create.commit", "store.create.committed");
        self.db.write(points, move |tx| create::create(tx, &runs, key.as_ref(), &audit)).await
    }

    async fn finish_idempotent(
        &self,
        key: &IdempotencyKey,
        answer: &StoredAnswer,
    ) -> StoreResult<()> {
        let (key, answer) = (key.clone(), answer.clone());
        let points = Points("store.answer.commit", "store.answer.committed");
        self.db.write(points, move |tx| create::answer(tx, &key, &answer)).await
    }

    async fn settle_sent(&self, run_id: Uuid, outcome: SendOutcome) -> StoreResult<()> {
        let points = Points("store.settle.commit", "store.settle.committed");
        self.db.write(points, move |tx| cancel::settle(tx, run_id, outcome)).await
    }

    async fn cancel(
        &self,
        requests: &[CancelRequest],
        now: OffsetDateTime,
        by: Option<&Actor>,
    ) -> StoreResult<Vec<CancelOutcome>> {
        let (requests, by) = (requests.to_vec(), by.cloned());
        let points = Points("store.cancel.commit", "store.cancel.committed");
        self.db.write(points, move |tx| cancel::all(tx, &requests, now, by.as_ref())).await
    }

    async fn list(&self, query: &RunQuery) -> StoreResult<Rows<RunRow>> {
        let (query, totals) = (query.clone(), Arc::clone(&self.totals));
        self.db.read(move |tx| lists::runs(tx, &query, &totals)).await
    }

    async fn list_hosts(&self, query: &RunHostQuery) -> StoreResult<Rows<RunHostRow>> {
        let (query, totals) = (query.clone(), Arc::clone(&self.totals));
        self.db.read(move |tx| lists::hosts(tx, &query, &totals)).await
    }

    async fn get(&self, org_id: &str, run_id: Uuid) -> StoreResult<Option<RunDetail>> {
        let org_id = org_id.to_owned();
        self.db.read(move |tx| lists::detail(tx, &org_id, run_id)).await
    }

    async fn read_log(
        &self,
        org_id: &str,
        run_id: Uuid,
        host: Option<&str>,
        from: u64,
        cap: usize,
    ) -> StoreResult<Option<LogSlice>> {
        let (org_id, host) = (org_id.to_owned(), host.map(str::to_owned));
        self.db.read(move |tx| logs::slice(tx, &org_id, run_id, host.as_deref(), from, cap)).await
    }
}
