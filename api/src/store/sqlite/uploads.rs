//! [`UploadStore`] on SQLite: the inbox. What an upload does to a run is in `apply`.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use rusqlite::{Row, Transaction, params, types::Type};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    super::{StoreResult, UploadStore},
    Store, apply,
    connection::Points,
    encode::{At, collect, first, without_nul},
};
use crate::{
    runs::model::Rows,
    uploads::model::{
        ApplyOutcome, ClaimedUpload, MAX_APPLY_ATTEMPTS, Update, Upload, UploadState,
    },
};

/// The columns that [`upload`] reads.
const UPLOAD: &str = "id, org_id, run_id, object, size, state, reason, attempt, created_at";

#[async_trait]
impl UploadStore for Store {
    async fn accept(&self, upload: &Upload) -> StoreResult<()> {
        let upload = upload.clone();
        let points = Points("store.accept.commit", "store.accept.committed");
        self.db.write(points, move |tx| accept(tx, &upload)).await
    }

    async fn claim(
        &self,
        claim: Uuid,
        now: OffsetDateTime,
        lease: Duration,
    ) -> StoreResult<Option<ClaimedUpload>> {
        let points = Points("store.claim_upload.commit", "store.claim_upload.committed");
        self.db.write(points, move |tx| claim_next(tx, claim, now, lease)).await
    }

    async fn apply(
        &self,
        upload: &ClaimedUpload,
        update: &Arc<Update>,
        now: OffsetDateTime,
    ) -> StoreResult<ApplyOutcome> {
        let (upload, update) = (upload.clone(), Arc::clone(update));
        let points = Points("store.apply.commit", "store.apply.committed");
        self.db.write(points, move |tx| apply::apply(tx, &upload, &update, now)).await
    }

    async fn put_back(&self, upload: &ClaimedUpload, from: OffsetDateTime) -> StoreResult<bool> {
        let (id, claim) = (upload.upload.id, upload.claim);
        let points = Points("store.put_back.commit", "store.put_back.committed");
        let put_back = move |tx: &Transaction<'_>| {
            let changed = tx
                .prepare_cached(
                    "UPDATE uploads SET claim = NULL, lease_until = ?3, attempt = attempt - 1
                     WHERE id = ?1 AND claim = ?2 AND state = 'pending'",
                )?
                .execute(params![id, claim, At(from)])?;
            Ok(changed > 0)
        };
        self.db.write(points, put_back).await
    }

    async fn reject(&self, upload: &ClaimedUpload, reason: &str) -> StoreResult<bool> {
        let (upload, reason) = (upload.clone(), reason.to_owned());
        let points = Points("store.reject.commit", "store.reject.committed");
        let close =
            move |tx: &Transaction<'_>| close(tx, &upload, UploadState::Invalid, Some(&reason));
        self.db.write(points, close).await
    }

    async fn not_needed(&self, ids: &[Uuid]) -> StoreResult<Vec<Uuid>> {
        let ids = ids.to_vec();
        self.db.read(move |tx| not_needed(tx, &ids)).await
    }

    async fn list(&self, org_id: &str, limit: i64, offset: i64) -> StoreResult<Rows<Upload>> {
        let org_id = org_id.to_owned();
        self.db.read(move |tx| list(tx, &org_id, limit, offset)).await
    }
}

fn upload(row: &Row<'_>) -> StoreResult<Upload> {
    let state: String = row.get(5)?;
    let unknown = || {
        let error = format!("{state:?} is no state of an upload").into();
        rusqlite::Error::FromSqlConversionFailure(5, Type::Text, error)
    };
    Ok(Upload {
        id: row.get(0)?,
        org_id: row.get(1)?,
        run_id: row.get(2)?,
        object: row.get(3)?,
        size: row.get(4)?,
        state: UploadState::parse(&state).ok_or_else(unknown)?,
        reason: row.get(6)?,
        attempt: row.get(7)?,
        created_at: row.get::<_, At>(8)?.0,
    })
}

fn accept(tx: &Transaction<'_>, upload: &Upload) -> StoreResult<()> {
    tx.prepare_cached(
        "INSERT INTO uploads (id, org_id, run_id, object, size, state, reason, attempt, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (id) DO NOTHING",
    )?
    .execute(params![
        upload.id,
        upload.org_id,
        upload.run_id,
        upload.object,
        upload.size,
        upload.state.as_str(),
        upload.reason,
        upload.attempt,
        At(upload.created_at),
    ])?;
    Ok(())
}

fn claim_next(
    tx: &Transaction<'_>,
    claim: Uuid,
    now: OffsetDateTime,
    lease: Duration,
) -> StoreResult<Option<ClaimedUpload>> {
    while let Some(mut next) = oldest(tx, now)? {
        if next.attempt >= MAX_APPLY_ATTEMPTS {
            give_up(tx, &next)?;
            continue;
        }
        tx.prepare_cached(
            "UPDATE uploads SET claim = ?2, lease_until = ?3, attempt = attempt + 1 WHERE id = ?1",
        )?
        .execute(params![next.id, claim, At(now + lease)])?;
        next.attempt += 1;
        return Ok(Some(ClaimedUpload { upload: next, claim }));
    }
    Ok(None)
}

pub(super) fn oldest_sql() -> String {
    format!(
        "SELECT {UPLOAD} FROM uploads
         WHERE state = 'pending' AND (lease_until IS NULL OR lease_until <= ?1)
         ORDER BY created_at, id LIMIT 1"
    )
}

/// The oldest upload that nobody holds.
fn oldest(tx: &Transaction<'_>, now: OffsetDateTime) -> StoreResult<Option<Upload>> {
    first(tx.prepare_cached(&oldest_sql())?.query([At(now)])?, upload)
}

fn give_up(tx: &Transaction<'_>, upload: &Upload) -> StoreResult<()> {
    let reason =
        format!("given up: applying it was tried {} times and never ended", upload.attempt);
    tx.prepare_cached(
        "UPDATE uploads SET state = ?2, reason = coalesce(reason, ?3), claim = NULL,
                            lease_until = NULL WHERE id = ?1",
    )?
    .execute(params![upload.id, UploadState::Poisoned.as_str(), reason])?;
    Ok(())
}

/// The upload as it stands, where the claim is the caller's.
pub(super) fn held(tx: &Transaction<'_>, claimed: &ClaimedUpload) -> StoreResult<Option<Upload>> {
    let sql = format!("SELECT {UPLOAD} FROM uploads WHERE id = ?1 AND claim = ?2");
    let mut statement = tx.prepare_cached(&sql)?;
    first(statement.query(params![claimed.upload.id, claimed.claim])?, upload)
}

/// Marks an upload as done with; the claim stays, so that the same call can be repeated. `false`:
/// the claim is not the caller's.
pub(super) fn close(
    tx: &Transaction<'_>,
    upload: &ClaimedUpload,
    state: UploadState,
    reason: Option<&str>,
) -> StoreResult<bool> {
    let closed = tx
        .prepare_cached(
            "UPDATE uploads SET state = ?3, reason = ?4
             WHERE id = ?1 AND claim = ?2 AND state = 'pending'",
        )?
        .execute(params![
            upload.upload.id,
            upload.claim,
            state.as_str(),
            reason.map(without_nul)
        ])?;
    Ok(closed > 0)
}

fn not_needed(tx: &Transaction<'_>, ids: &[Uuid]) -> StoreResult<Vec<Uuid>> {
    let mut needed =
        tx.prepare_cached("SELECT 1 FROM uploads WHERE id = ?1 AND state <> 'applied'")?;
    let mut rest = Vec::new();
    for id in ids {
        if !needed.exists([id])? {
            rest.push(*id);
        }
    }
    Ok(rest)
}

fn list(tx: &Transaction<'_>, org_id: &str, limit: i64, offset: i64) -> StoreResult<Rows<Upload>> {
    let total = tx
        .prepare_cached("SELECT count(*) FROM uploads WHERE org_id = ?1")?
        .query_row([org_id], |row| row.get(0))?;
    let sql = format!(
        "SELECT {UPLOAD} FROM uploads WHERE org_id = ?1
         ORDER BY created_at DESC, id LIMIT ?2 OFFSET ?3"
    );
    let mut statement = tx.prepare_cached(&sql)?;
    let rows = collect(statement.query(params![org_id, limit, offset])?, upload)?;
    Ok(Rows { rows, total })
}
