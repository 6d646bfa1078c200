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
    encode::{At, collect, first, from_json, to_json},
};
use crate::{
    recipients::{
        facts,
        model::{Recipient, RecipientSummary},
    },
    runs::model::Rows,
};

/// What [`summary`] reads, of `recipients AS p`.
pub(super) const SUMMARY: &str = "
    p.id, p.org_id, p.name, p.key_digest, p.last_seen, p.created_at, p.labels,
    p.facts ->> 'worker_version' AS version, p.facts ->> 'paused' AS paused, p.facts, p.facts_at, (
        SELECT count(*) FROM run_work AS w JOIN runs AS r ON r.id = w.run_id
        WHERE w.recipient = p.id AND w.state < 3 AND r.status = 'running') AS active
    FROM recipients AS p";
/// The recipients of a list, with all these labels.
const LISTED: &str = "
    p.org_id = ?1 AND p.removed_at IS NULL AND NOT EXISTS (
        SELECT 1 FROM json_each(?2) AS wanted WHERE NOT EXISTS (
            SELECT 1 FROM json_each(p.labels) AS label
            WHERE label.key = wanted.key AND label.value = wanted.value))";
/// The columns that [`recipient`] reads.
const RECIPIENT: &str = "p.id, p.org_id, p.name, p.key_digest, p.last_seen, p.created_at";

#[async_trait]
impl RecipientStore for Store {
    async fn register(&self, recipient: &Recipient) -> StoreResult<bool> {
        let recipient = recipient.clone();
        let points = Points("store.register.commit", "store.register.committed");
        self.db.write(points, move |tx| register(tx, &recipient)).await
    }

    async fn seen(&self, recipients: &[Uuid], at: OffsetDateTime) -> StoreResult<()> {
        let recipients = recipients.to_vec();
        let points = Points("store.seen.commit", "store.seen.committed");
        let note = move |tx: &Transaction<'_>| {
            let mut statement = tx.prepare_cached(
                "UPDATE recipients SET last_seen = ?2
                 WHERE id = ?1 AND (last_seen IS NULL OR last_seen < ?2)",
            )?;
            for recipient in recipients {
                statement.execute(params![recipient, At(at)])?;
            }
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
        labels: &BTreeMap<String, String>,
        limit: i64,
        offset: i64,
    ) -> StoreResult<Rows<RecipientSummary>> {
        let (org_id, labels) = (org_id.to_owned(), to_json(labels)?);
        self.db.read(move |tx| list(tx, &org_id, &labels, limit, offset)).await
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
             SET name = excluded.name, key_digest = excluded.key_digest, removed_at = NULL
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
    let sql =
        format!("SELECT {RECIPIENT} FROM recipients AS p WHERE p.id = ?1 AND p.removed_at IS NULL");
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
    labels: &str,
    limit: i64,
    offset: i64,
) -> StoreResult<Rows<RecipientSummary>> {
    let total = tx
        .prepare_cached(&format!("SELECT count(*) FROM recipients AS p WHERE {LISTED}"))?
        .query_row([org_id, labels], |row| row.get(0))?;
    let sql = format!("SELECT {SUMMARY} WHERE {LISTED} ORDER BY p.name, p.id LIMIT ?3 OFFSET ?4");
    let mut statement = tx.prepare_cached(&sql)?;
    let rows = collect(statement.query(params![org_id, labels, limit, offset])?, summary)?;
    Ok(Rows { rows, total })
}

/// A row with [`SUMMARY`].
pub(super) fn summary(row: &Row<'_>) -> StoreResult<RecipientSummary> {
    let labels: Option<String> = row.get("labels")?;
    let shown = |text: Option<String>| text.and_then(|text| facts::shown(&text));
    Ok(RecipientSummary {
        recipient: recipient(row)?,
        active_runs: row.get("active")?,
        labels: labels.map(|labels| from_json(&labels)).transpose()?.unwrap_or_default(),
        version: shown(row.get("version")?),
        paused: shown(row.get("paused")?),
    })
}
