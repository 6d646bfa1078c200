//! [`PlaybookStore`] on SQLite.

use async_trait::async_trait;
use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::{
    super::{PlaybookStore, StoreResult},
    Store, audit as log,
    connection::Points,
    encode::{At, collect, first},
};
use crate::{audit::model::AuditEntry, playbooks::model::StoredPlaybook, runs::model::Rows};

/// The columns that [`playbook`] reads.
const PLAYBOOK: &str = "org_id, name, sha256, size, entry, created_at, updated_at";

#[async_trait]
impl PlaybookStore for Store {
    async fn put(
        &self,
        playbook: &StoredPlaybook,
        audit: Option<&AuditEntry>,
    ) -> StoreResult<Option<[u8; 32]>> {
        let (playbook, audit) = (playbook.clone(), audit.cloned());
        let points = Points("store.playbook.commit", "store.playbook.committed");
        self.db.write(points, move |tx| put(tx, &playbook, audit.as_ref())).await
    }

    async fn get(&self, org_id: &str, name: &str) -> StoreResult<Option<StoredPlaybook>> {
        let key = [org_id.to_owned(), name.to_owned()];
        let sql = format!("SELECT {PLAYBOOK} FROM playbooks WHERE org_id = ?1 AND name = ?2");
        self.db.read(move |tx| first(tx.prepare_cached(&sql)?.query(key)?, playbook)).await
    }

    async fn list(
        &self,
        org_id: &str,
        limit: i64,
        offset: i64,
    ) -> StoreResult<Rows<StoredPlaybook>> {
        let org_id = org_id.to_owned();
        self.db.read(move |tx| list(tx, &org_id, limit, offset)).await
    }

    async fn find_content(
        &self,
        org_id: &str,
        sha256: &[u8; 32],
    ) -> StoreResult<Option<StoredPlaybook>> {
        let (org_id, sha256) = (org_id.to_owned(), *sha256);
        let sql = format!(
            "SELECT {PLAYBOOK} FROM playbooks WHERE org_id = ?1 AND sha256 = ?2
             ORDER BY name LIMIT 1"
        );
        let find = move |tx: &Transaction<'_>| {
            first(tx.prepare_cached(&sql)?.query(params![org_id, sha256])?, playbook)
        };
        self.db.read(find).await
    }
}

fn playbook(row: &Row<'_>) -> StoreResult<StoredPlaybook> {
    Ok(StoredPlaybook {
        org_id: row.get(0)?,
        name: row.get(1)?,
        sha256: row.get(2)?,
        size: row.get(3)?,
        entry: row.get(4)?,
        created_at: row.get::<_, At>(5)?.0,
        updated_at: row.get::<_, At>(6)?.0,
    })
}

fn put(
    tx: &Transaction<'_>,
    playbook: &StoredPlaybook,
    audit: Option<&AuditEntry>,
) -> StoreResult<Option<[u8; 32]>> {
    let before: Option<[u8; 32]> = tx
        .prepare_cached("SELECT sha256 FROM playbooks WHERE org_id = ?1 AND name = ?2")?
        .query_row([&playbook.org_id, &playbook.name], |row| row.get(0))
        .optional()?;
    tx.prepare_cached(
        "INSERT INTO playbooks (org_id, name, sha256, size, entry, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (org_id, name) DO UPDATE
         SET sha256 = excluded.sha256, size = excluded.size, entry = excluded.entry,
             updated_at = excluded.updated_at
         WHERE sha256 <> excluded.sha256 OR entry IS NOT excluded.entry",
    )?
    .execute(params![
        playbook.org_id,
        playbook.name,
        playbook.sha256,
        playbook.size,
        playbook.entry,
        At(playbook.created_at),
        At(playbook.updated_at),
    ])?;
    if before != Some(playbook.sha256) {
        log::write(tx, audit)?;
    }
    Ok(before.filter(|before| *before != playbook.sha256))
}

fn list(
    tx: &Transaction<'_>,
    org_id: &str,
    limit: i64,
    offset: i64,
) -> StoreResult<Rows<StoredPlaybook>> {
    let total = tx
        .prepare_cached("SELECT count(*) FROM playbooks WHERE org_id = ?1")?
        .query_row([org_id], |row| row.get(0))?;
    let sql = format!(
        "SELECT {PLAYBOOK} FROM playbooks WHERE org_id = ?1 ORDER BY name LIMIT ?2 OFFSET ?3"
    );
    let mut statement = tx.prepare_cached(&sql)?;
    let rows = collect(statement.query(params![org_id, limit, offset])?, playbook)?;
    Ok(Rows { rows, total })
}
