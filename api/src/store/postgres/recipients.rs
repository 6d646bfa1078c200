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
    registrations::{may_match, wanted_labels},
    rows::{held, holdable},
};
use crate::{
    recipients::{
        facts,
        model::{Recipient, RecipientSummary},
    },
    runs::model::Rows,
    store::{RecipientStore, StoreResult},
};

/// What [`summary`] reads, of `recipients p`.
pub(super) const SUMMARY: &str = "
    p.*, p.facts->>'worker_version' AS version, p.facts->>'paused' AS paused,
    (SELECT count(*) FROM run_work w JOIN runs r ON r.id = w.run_id
     WHERE w.recipient = p.id AND w.state < 3 AND r.status = 'running') AS active
    FROM recipients p";
/// The recipients of a list.
const LISTED: &str = "
    p.org_id = $1 AND p.removed_at IS NULL
    AND ($2::json::jsonb = '{}' OR p.labels::jsonb @> $2::json::jsonb)";

#[async_trait]
impl RecipientStore for PostgresStore {
    async fn register(&self, recipient: &Recipient) -> StoreResult<bool> {
        const REGISTER: &str = "
            INSERT INTO recipients AS r (id, org_id, name, key_digest, last_seen, created_at)
            VALUES ($1, $2, $3, $4, $5, $6)
            ON CONFLICT (id) DO UPDATE SET name = excluded.name,
                key_digest = excluded.key_digest, removed_at = NULL
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

    async fn seen(&self, recipients: &[Uuid], at: OffsetDateTime) -> StoreResult<()> {
        // In the order of their ids, so that two instances do not wait for each other.
        const SEEN: &str = "
            UPDATE recipients SET last_seen = $2
            WHERE id IN (SELECT id FROM recipients
                         WHERE id = ANY($1) AND (last_seen IS NULL OR last_seen < $2)
                         ORDER BY id FOR NO KEY UPDATE)";
        self.retrying(|| async { execute(&self.client().await?, SEEN, &[&recipients, &at]).await })
            .await?;
        Ok(())
    }

    async fn find(&self, ids: &[Uuid]) -> StoreResult<BTreeMap<Uuid, Recipient>> {
        const FIND: &str = "SELECT * FROM recipients WHERE id = ANY($1) AND removed_at IS NULL";
        self.retrying(|| async {
            let rows = all(&self.client().await?, FIND, &[&ids]).await?;
            rows.iter().map(|row| Ok((row.try_get("id")?, recipient(row)?))).collect()
        })
        .await
    }

    async fn list(
        &self,
        org_id: &str,
        labels: &BTreeMap<String, String>,
        limit: i64,
        offset: i64,
    ) -> StoreResult<Rows<RecipientSummary>> {
        let page = format!(
            "SELECT {SUMMARY} WHERE {LISTED} ORDER BY p.name COLLATE \"C\", p.id LIMIT $3 OFFSET $4"
        );
        let count = format!("SELECT count(*) FROM recipients p WHERE {LISTED}");
        let wanted = wanted_labels(labels);
        if !holdable(org_id) || !may_match(labels) {
            return Ok(Rows { rows: Vec::new(), total: 0 });
        }
        self.retrying(|| async {
            let client = self.client().await?;
            let rows = all(&client, &page, &[&org_id, &wanted, &limit, &offset]).await?;
            let total = one(&client, &count, &[&org_id, &wanted]).await?;
            let rows = rows.iter().map(summary).collect::<Result<_, _>>()?;
            Ok(Rows { rows, total: total.map_or(Ok(0), |row| row.try_get(0))? })
        })
        .await
    }
}

/// A row with [`SUMMARY`].
pub(super) fn summary(row: &Row) -> Result<RecipientSummary, Fault> {
    let labels: Option<serde_json::Value> = row.try_get("labels")?;
    let labels = labels.map(serde_json::from_value).transpose();
    let labels = labels.map_err(|error| Fault::broken(format!("labels that are none: {error}")))?;
    let shown = |text: Option<String>| text.and_then(|text| facts::shown(&text));
    Ok(RecipientSummary {
        recipient: recipient(row)?,
        active_runs: row.try_get("active")?,
        labels: labels.unwrap_or_default(),
        version: shown(row.try_get("version")?),
        paused: shown(row.try_get("paused")?),
    })
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
