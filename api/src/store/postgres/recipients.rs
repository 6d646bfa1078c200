//! Recipients and their presence.

use std::collections::BTreeMap;

use async_trait::async_trait;
use time::OffsetDateTime;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    PostgresStore,
    connection::{Param, all, one, run as execute},
    fault::Fault,
    rows::{held, holdable},
};
use crate::{
    recipients::model::{Recipient, RecipientSummary},
    runs::model::Rows,
    store::{RecipientStore, StoreResult},
};

const COUNT: &str = "SELECT count(*) FROM recipients WHERE org_id = $1";

#[async_trait]
impl RecipientStore for PostgresStore {
    async fn register(&self, recipient: &Recipient) -> StoreResult<bool> {
        const REGISTER: &str = "
            INSERT INTO recipients AS r (id, org_id, name, key_digest, last_seen, created_at)
            VALUES ($1, $2, $3, $4, $5, $6)
            ON CONFLICT (id) DO UPDATE SET name = excluded.name, key_digest = excluded.key_digest
            WHERE r.org_id = excluded.org_id";
        let Recipient { id, org_id, name, key_digest, last_seen, created_at } = recipient;
        let name = held(name);
        let written = self
            .retrying(|| async {
                let client = self.client().await?;
                let params: [Param<'_>; 6] = [id, org_id, &name, key_digest, last_seen, created_at];
                execute(&client, REGISTER, &params).await
            })
            .await?;
        Ok(written == 1)
    }

    async fn seen(&self, recipient: Uuid, at: OffsetDateTime) -> StoreResult<()> {
        const SEEN: &str = "
            UPDATE recipients SET last_seen = $2
            WHERE id = $1 AND (last_seen IS NULL OR last_seen < $2)";
        self.retrying(|| async { execute(&self.client().await?, SEEN, &[&recipient, &at]).await })
            .await?;
        Ok(())
    }

    async fn find(&self, ids: &[Uuid]) -> StoreResult<BTreeMap<Uuid, Recipient>> {
        const FIND: &str = "SELECT * FROM recipients WHERE id = ANY($1)";
        self.retrying(|| async {
            let rows = all(&self.client().await?, FIND, &[&ids]).await?;
            rows.iter().map(|row| Ok((row.try_get("id")?, recipient(row)?))).collect()
        })
        .await
    }

    async fn list(
        &self,
        org_id: &str,
        limit: i64,
        offset: i64,
    ) -> StoreResult<Rows<RecipientSummary>> {
        const PAGE: &str = "
            SELECT p.*, (SELECT count(*) FROM run_work w JOIN runs r ON r.id = w.run_id
                         WHERE w.recipient = p.id AND w.state < 3 AND r.status = 'running') AS active
            FROM recipients p WHERE p.org_id = $1
            ORDER BY p.name COLLATE \"C\", p.id LIMIT $2 OFFSET $3";
        if !holdable(org_id) {
            return Ok(Rows { rows: Vec::new(), total: 0 });
        }
        self.retrying(|| async {
            let client = self.client().await?;
            let rows = all(&client, PAGE, &[&org_id, &limit, &offset]).await?;
            let total = one(&client, COUNT, &[&org_id]).await?;
            let summary = |row: &Row| {
                Ok(RecipientSummary {
                    recipient: recipient(row)?,
                    active_runs: row.try_get("active")?,
                })
            };
            let rows = rows.iter().map(summary).collect::<Result<_, Fault>>()?;
            Ok(Rows { rows, total: total.map_or(Ok(0), |row| row.try_get(0))? })
        })
        .await
    }
}

fn recipient(row: &Row) -> Result<Recipient, Fault> {
    Ok(Recipient {
        id: row.try_get("id")?,
        org_id: row.try_get("org_id")?,
        name: row.try_get("name")?,
        key_digest: row.try_get("key_digest")?,
        last_seen: row.try_get("last_seen")?,
        created_at: row.try_get("created_at")?,
    })
}
