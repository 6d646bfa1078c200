//! [`RecipientStore`] on SQLite.

use std::collections::BTreeMap;

use async_trait::async_trait;
use rusqlite::{Row, Transaction, params};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    super::{RecipientStore, StoreResult},
    Store,
    connection::Points,
    encode::{At, collect, first},
};
use crate::{
    recipients::model::{Recipient, RecipientSummary},
    runs::model::Rows,
};

/// The columns that [`recipient`] reads.
const RECIPIENT: &str = "p.id, p.org_id, p.name, p.key_digest, p.last_seen, p.created_at";

#[async_trait]
impl RecipientStore for Store {
    async fn register(&self, recipient: &Recipient) -> StoreResult<bool> {
        let recipient = recipient.clone();
        let points = Points("store.register.commit", "store.register.committed");
        self.db.write(points, move |tx| register(tx, &recipient)).await
    }

    async fn seen(&self, recipient: Uuid, at: OffsetDateTime) -> StoreResult<()> {
        let points = Points("store.seen.commit", "store.seen.committed");
        let note = move |tx: &Transaction<'_>| {
            tx.prepare_cached(
                "UPDATE recipients SET last_seen = ?2
                 WHERE id = ?1 AND (last_seen IS NULL OR last_seen < ?2)",
            )?
            .execute(params![recipient, At(at)])?;
            Ok(())
        };
        self.db.write(points, note).await
    }

    async fn find(&self, ids: &[Uuid]) -> StoreResult<BTreeMap<Uuid, Recipient>> {
        let ids = ids.to_vec();
        self.db.read(move |tx| find(tx, &ids)).await
    }

    async fn list(
        &self,
        org_id: &str,
        limit: i64,
        offset: i64,
    ) -> StoreResult<Rows<RecipientSummary>> {
        let org_id = org_id.to_owned();
        self.db.read(move |tx| list(tx, &org_id, limit, offset)).await
    }
}

fn recipient(row: &Row<'_>) -> StoreResult<Recipient> {
    Ok(Recipient {
        id: row.get(0)?,
        org_id: row.get(1)?,
        name: row.get(2)?,
        key_digest: row.get(3)?,
        last_seen: row.get::<_, Option<At>>(4)?.map(|at| at.0),
        created_at: row.get::<_, At>(5)?.0,
    })
}

fn register(tx: &Transaction<'_>, recipient: &Recipient) -> StoreResult<bool> {
    let written = tx
        .prepare_cached(
            "INSERT INTO recipients (id, org_id, name, key_digest, last_seen, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (id) DO UPDATE
             SET name = excluded.name, key_digest = excluded.key_digest
             WHERE recipients.org_id = excluded.org_id",
        )?
        .execute(params![
            recipient.id,
            recipient.org_id,
            recipient.name,
            recipient.key_digest,
            recipient.last_seen.map(At),
            At(recipient.created_at),
        ])?;
    Ok(written > 0)
}

fn find(tx: &Transaction<'_>, ids: &[Uuid]) -> StoreResult<BTreeMap<Uuid, Recipient>> {
    let sql = format!("SELECT {RECIPIENT} FROM recipients AS p WHERE p.id = ?1");
    let mut statement = tx.prepare_cached(&sql)?;
    let mut found = BTreeMap::new();
    for id in ids {
        found.extend(first(statement.query([id])?, recipient)?.map(|known| (*id, known)));
    }
    Ok(found)
}

fn list(
    tx: &Transaction<'_>,
    org_id: &str,
    limit: i64,
    offset: i64,
) -> StoreResult<Rows<RecipientSummary>> {
    let total = tx
        .prepare_cached("SELECT count(*) FROM recipients WHERE org_id = ?1")?
        .query_row([org_id], |row| row.get(0))?;
    let sql = format!(
        "SELECT {RECIPIENT}, (
             SELECT count(*) FROM run_work AS w JOIN runs AS r ON r.id = w.run_id
             WHERE w.recipient = p.id AND w.state < 3 AND r.status = 'running')
         FROM recipients AS p WHERE p.org_id = ?1 ORDER BY p.name, p.id LIMIT ?2 OFFSET ?3"
    );
    let mut statement = tx.prepare_cached(&sql)?;
    let rows = collect(statement.query(params![org_id, limit, offset])?, |row| {
        Ok(RecipientSummary { recipient: recipient(row)?, active_runs: row.get(6)? })
    })?;
    Ok(Rows { rows, total })
}
