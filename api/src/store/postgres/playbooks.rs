//! Stored playbooks: names that point at content.

use async_trait::async_trait;
use tokio_postgres::Row;

use super::{
    PostgresStore, audit as log,
    connection::{Param, Points, all, committed, one, run as execute},
    fault::Fault,
    rows::{held, holdable},
};
use crate::{
    audit::model::AuditEntry,
    playbooks::model::StoredPlaybook,
    runs::model::Rows,
    store::{PlaybookStore, StoreResult},
};

#[async_trait]
impl PlaybookStore for PostgresStore {
    async fn put(
        &self,
        playbook: &StoredPlaybook,
        audit: Option<&AuditEntry>,
    ) -> StoreResult<Option<[u8; 32]>> {
        const BEFORE: &str =
            "SELECT sha256 FROM playbooks WHERE org_id = $1 AND name = $2 FOR UPDATE";
        const PUT: &str = "
            INSERT INTO playbooks (org_id, name, sha256, size, entry, created_at, updated_at)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
            ON CONFLICT (org_id, name) DO UPDATE
            SET sha256 = excluded.sha256, size = excluded.size, entry = excluded.entry,
                updated_at = excluded.updated_at";
        let StoredPlaybook { org_id, name, sha256, size, entry, created_at, updated_at } = playbook;
        let content = sha256.as_slice();
        let entry = entry.as_deref().map(held);
        self.retrying(|| async {
            let mut client = self.client().await?;
            let transaction = client.transaction().await?;
            let before = one(&transaction, BEFORE, &[org_id, name]).await?;
            let before = before.map(|row| digest(&row)).transpose()?;
            let params: [Param<'_>; 7] =
                [org_id, name, &content, size, &entry, created_at, updated_at];
            execute(&transaction, PUT, &params).await?;
            if before != Some(*sha256) {
                log::write(&transaction, audit).await?;
            }
            committed(
                transaction,
                Points("store.playbook.commit", "store.playbook.committed"),
                before.filter(|before| before != sha256),
            )
            .await
        })
        .await
    }

    async fn get(&self, org_id: &str, name: &str) -> StoreResult<Option<StoredPlaybook>> {
        const GET: &str = "SELECT * FROM playbooks WHERE org_id = $1 AND name = $2";
        if !holdable(org_id) || !holdable(name) {
            return Ok(None);
        }
        self.retrying(|| async {
            let row = one(&self.client().await?, GET, &[&org_id, &name]).await?;
            row.map(|row| playbook_of(&row)).transpose()
        })
        .await
    }

    async fn list(
        &self,
        org_id: &str,
        limit: i64,
        offset: i64,
    ) -> StoreResult<Rows<StoredPlaybook>> {
        const PAGE: &str = "
            SELECT * FROM playbooks WHERE org_id = $1
            ORDER BY name COLLATE \"C\" LIMIT $2 OFFSET $3";
        const COUNT: &str = "SELECT count(*) FROM playbooks WHERE org_id = $1";
        if !holdable(org_id) {
            return Ok(Rows { rows: Vec::new(), total: 0 });
        }
        self.retrying(|| async {
            let client = self.client().await?;
            let rows = all(&client, PAGE, &[&org_id, &limit, &offset]).await?;
            let total = one(&client, COUNT, &[&org_id]).await?;
            let rows = rows.iter().map(playbook_of).collect::<Result<_, _>>()?;
            Ok(Rows { rows, total: total.map_or(Ok(0), |row| row.try_get(0))? })
        })
        .await
    }

    async fn find_content(
        &self,
        org_id: &str,
        sha256: &[u8; 32],
    ) -> StoreResult<Option<StoredPlaybook>> {
        const FIND: &str = "
            SELECT * FROM playbooks WHERE org_id = $1 AND sha256 = $2
            ORDER BY name COLLATE \"C\" LIMIT 1";
        if !holdable(org_id) {
            return Ok(None);
        }
        let content = sha256.as_slice();
        self.retrying(|| async {
            let row = one(&self.client().await?, FIND, &[&org_id, &content]).await?;
            row.map(|row| playbook_of(&row)).transpose()
        })
        .await
    }
}

fn digest(row: &Row) -> Result<[u8; 32], Fault> {
    let bytes: &[u8] = row.try_get("sha256")?;
    bytes.try_into().map_err(|_| Fault::broken("a stored playbook's digest is not 32 bytes"))
}

fn playbook_of(row: &Row) -> Result<StoredPlaybook, Fault> {
    Ok(StoredPlaybook {
        org_id: row.try_get("org_id")?,
        name: row.try_get("name")?,
        sha256: digest(row)?,
        size: row.try_get("size")?,
        entry: row.try_get("entry")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}
