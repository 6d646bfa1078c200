//! The inbox of uploads. Applying one has a file of its own.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use time::OffsetDateTime;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    PostgresStore, apply,
    connection::{Param, Points, all, committed, one, run as execute},
    fault::Fault,
    rows::{held, holdable},
};
use crate::{
    runs::model::Rows,
    store::{StoreResult, UploadStore},
    uploads::model::{
        ApplyOutcome, ClaimedUpload, MAX_APPLY_ATTEMPTS, Update, Upload, UploadState,
    },
};

#[async_trait]
impl UploadStore for PostgresStore {
    async fn accept(&self, upload: &Upload) -> StoreResult<()> {
        const ACCEPT: &str = "
            INSERT INTO uploads (id, org_id, run_id, object, size, state, created_at)
            VALUES ($1, $2, $3, $4, $5, 'pending', $6) ON CONFLICT (id) DO NOTHING";
        self.retrying(|| async {
            let Upload { id, org_id, run_id, object, size, created_at, .. } = upload;
            let params: [Param<'_>; 6] = [id, org_id, run_id, object, size, created_at];
            execute(&self.client().await?, ACCEPT, &params).await
        })
        .await?;
        Ok(())
    }

    async fn claim(
        &self,
        claim: Uuid,
        now: OffsetDateTime,
        lease: Duration,
    ) -> StoreResult<Option<ClaimedUpload>> {
        const GIVE_UP: &str = "
            UPDATE uploads SET state = 'poisoned', reason = coalesce(reason, $3)
            WHERE id IN (SELECT id FROM uploads WHERE state = 'pending' AND attempt >= $2
                           AND (lease_until IS NULL OR lease_until <= $1)
                         ORDER BY id FOR UPDATE SKIP LOCKED)";
        const CLAIM: &str = "
            UPDATE uploads SET claim = $2, lease_until = $3, attempt = attempt + 1
            WHERE id = (SELECT id FROM uploads WHERE state = 'pending'
                          AND (lease_until IS NULL OR lease_until <= $1)
                        ORDER BY created_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)
            RETURNING *";
        let why =
            format!("given up: applying it was tried {MAX_APPLY_ATTEMPTS} times and never ended");
        let until = now + lease;
        self.retrying(|| async {
            let mut client = self.client().await?;
            let transaction = client.transaction().await?;
            execute(&transaction, GIVE_UP, &[&now, &MAX_APPLY_ATTEMPTS, &why]).await?;
            let row = one(&transaction, CLAIM, &[&now, &claim, &until]).await?;
            let upload = row.map(|row| upload(&row)).transpose()?;
            committed(
                transaction,
                Points("store.claim_upload.commit", "store.claim_upload.committed"),
                upload.map(|upload| ClaimedUpload { upload, claim }),
            )
            .await
        })
        .await
    }

    async fn apply(
        &self,
        upload: &ClaimedUpload,
        update: &Arc<Update>,
        now: OffsetDateTime,
    ) -> StoreResult<ApplyOutcome> {
        self.retrying(|| async {
            let mut client = self.client().await?;
            let transaction = client.transaction().await?;
            let outcome = apply::apply(&transaction, upload, update, now).await?;
            committed(transaction, Points("store.apply.commit", "store.apply.committed"), outcome)
                .await
        })
        .await
    }

    async fn put_back(&self, upload: &ClaimedUpload, from: OffsetDateTime) -> StoreResult<bool> {
        // Without its claim, the same call changes nothing when it is repeated.
        const PUT_BACK: &str = "
            UPDATE uploads SET claim = NULL, lease_until = $3, attempt = attempt - 1
            WHERE id = $1 AND claim = $2 AND state = 'pending'";
        let changed = self
            .retrying(|| async {
                let params: [Param<'_>; 3] = [&upload.upload.id, &upload.claim, &from];
                execute(&self.client().await?, PUT_BACK, &params).await
            })
            .await?;
        Ok(changed == 1)
    }

    async fn reject(&self, upload: &ClaimedUpload, reason: &str) -> StoreResult<bool> {
        const REJECT: &str = "
            UPDATE uploads SET state = 'invalid', reason = $3
            WHERE id = $1 AND claim = $2 AND state = 'pending'";
        let reason = held(reason);
        let rejected = self
            .retrying(|| async {
                let params: [Param<'_>; 3] = [&upload.upload.id, &upload.claim, &reason];
                execute(&self.client().await?, REJECT, &params).await
            })
            .await?;
        Ok(rejected == 1)
    }

    async fn not_needed(&self, ids: &[Uuid]) -> StoreResult<Vec<Uuid>> {
        const NOT_NEEDED: &str = "
            SELECT n.id FROM unnest($1::uuid[]) WITH ORDINALITY AS n (id, place)
            WHERE NOT EXISTS (SELECT FROM uploads u WHERE u.id = n.id AND u.state <> 'applied')
            ORDER BY n.place";
        self.retrying(|| async {
            let rows = all(&self.client().await?, NOT_NEEDED, &[&ids]).await?;
            rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
        })
        .await
    }

    async fn list(&self, org_id: &str, limit: i64, offset: i64) -> StoreResult<Rows<Upload>> {
        const PAGE: &str = "
            SELECT * FROM uploads WHERE org_id = $1
            ORDER BY created_at DESC, id LIMIT $2 OFFSET $3";
        const COUNT: &str = "SELECT count(*) FROM uploads WHERE org_id = $1";
        if !holdable(org_id) {
            return Ok(Rows { rows: Vec::new(), total: 0 });
        }
        self.retrying(|| async {
            let client = self.client().await?;
            let rows = all(&client, PAGE, &[&org_id, &limit, &offset]).await?;
            let total = one(&client, COUNT, &[&org_id]).await?;
            let rows = rows.iter().map(upload).collect::<Result<_, _>>()?;
            Ok(Rows { rows, total: total.map_or(Ok(0), |row| row.try_get(0))? })
        })
        .await
    }
}

fn upload(row: &Row) -> Result<Upload, Fault> {
    let state: &str = row.try_get("state")?;
    let unknown = || Fault::broken(format!("there is no upload state {state}"));
    Ok(Upload {
        id: row.try_get("id")?,
        org_id: row.try_get("org_id")?,
        run_id: row.try_get("run_id")?,
        object: row.try_get("object")?,
        size: row.try_get("size")?,
        state: UploadState::parse(state).ok_or_else(unknown)?,
        reason: row.try_get("reason")?,
        attempt: row.try_get("attempt")?,
        created_at: row.try_get("created_at")?,
    })
}
