//! The audit log: rows of one request in one statement, and pages of them.

use async_trait::async_trait;
use deadpool_postgres::GenericClient;
use serde_json::Value;
use time::OffsetDateTime;
use tokio_postgres::Row;

use super::{
    PostgresStore,
    connection::{Param, all, one},
    fault::Fault,
    rows::{held, holdable},
};
use crate::{
    audit::model::{AuditEntry, AuditQuery, AuditRow},
    runs::model::Rows,
    store::{AuditStore, StoreResult},
};

const WRITE: &str = "
    INSERT INTO audit (at, org_id, principal_kind, principal_id, role, action, target, request_id,
                       detail)
    SELECT * FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::text[],
                         $6::text[], $7::text[], $8::text[], $9::json[])";

/// Writes the rows of a change, in the transaction that makes it. Without rows nothing is sent.
pub(super) async fn write<'a>(
    client: &impl GenericClient,
    entries: impl IntoIterator<Item = &'a AuditEntry>,
) -> Result<(), Fault> {
    let entries: Vec<&AuditEntry> = entries.into_iter().collect();
    if entries.is_empty() {
        return Ok(());
    }
    let times: Vec<OffsetDateTime> = entries.iter().map(|entry| entry.at).collect();
    let orgs: Vec<Option<&str>> = entries.iter().map(|entry| entry.org_id.as_deref()).collect();
    let details: Vec<Option<&Value>> = entries.iter().map(|entry| entry.detail.as_ref()).collect();
    let texts = |text: fn(&AuditEntry) -> &str| -> Vec<String> {
        entries.iter().map(|entry| held(text(entry))).collect()
    };
    let (kinds, ids) = (texts(|entry| &entry.principal_kind), texts(|entry| &entry.principal_id));
    let (roles, actions) = (texts(|entry| &entry.role), texts(|entry| &entry.action));
    let targets = texts(|entry| &entry.target);
    let requests: Vec<Option<&str>> =
        entries.iter().map(|entry| entry.request_id.as_deref()).collect();
    let params: [Param<'_>; 9] =
        [&times, &orgs, &kinds, &ids, &roles, &actions, &targets, &requests, &details];
    let statement = client.prepare_cached(WRITE).await?;
    client.execute(&statement, &params).await?;
    Ok(())
}

#[async_trait]
impl AuditStore for PostgresStore {
    async fn note(&self, entries: &[AuditEntry]) -> StoreResult<()> {
        self.retrying(|| async { write(&self.client().await?, entries).await }).await
    }

    async fn list(&self, query: &AuditQuery) -> StoreResult<Rows<AuditRow>> {
        const PAGE: &str = "
            SELECT * FROM audit
            WHERE ($1::text IS NULL OR org_id = $1)
              AND ($2::text IS NULL OR action = $2 OR $2 LIKE '%.' AND starts_with(action, $2))
              AND ($3::text IS NULL OR principal_id = $3)
              AND ($4::timestamptz IS NULL OR at >= $4)
            ORDER BY id DESC LIMIT $5 OFFSET $6";
        const COUNT: &str = "
            SELECT count(*) FROM audit
            WHERE ($1::text IS NULL OR org_id = $1)
              AND ($2::text IS NULL OR action = $2 OR $2 LIKE '%.' AND starts_with(action, $2))
              AND ($3::text IS NULL OR principal_id = $3)
              AND ($4::timestamptz IS NULL OR at >= $4)";
        let nothing = Rows { rows: Vec::new(), total: 0 };
        let Some(org) = query.visible_org() else { return Ok(nothing) };
        let AuditQuery { action, principal, since, limit, offset, .. } = query;
        let wanted = [org, action.as_deref(), principal.as_deref()];
        if !wanted.into_iter().flatten().all(holdable) {
            return Ok(nothing);
        }
        self.retrying(|| async {
            let client = self.client().await?;
            let page: [Param<'_>; 6] = [&org, action, principal, since, limit, offset];
            let rows = all(&client, PAGE, &page).await?;
            let total = one(&client, COUNT, &[&org, action, principal, since]).await?;
            let rows = rows.iter().map(row_of).collect::<Result<_, _>>()?;
            Ok(Rows { rows, total: total.map_or(Ok(0), |row| row.try_get(0))? })
        })
        .await
    }
}

fn row_of(row: &Row) -> Result<AuditRow, Fault> {
    let entry = AuditEntry {
        at: row.try_get("at")?,
        org_id: row.try_get("org_id")?,
        principal_kind: row.try_get("principal_kind")?,
        principal_id: row.try_get("principal_id")?,
        role: row.try_get("role")?,
        action: row.try_get("action")?,
        target: row.try_get("target")?,
        request_id: row.try_get("request_id")?,
        detail: row.try_get("detail")?,
    };
    Ok(AuditRow { id: row.try_get("id")?, entry })
}
