//! [`AuditStore`] on SQLite, and how the methods that make a change write its rows.

use async_trait::async_trait;
use rusqlite::{Row, Transaction, params};

use super::{
    super::{AuditStore, StoreResult},
    Store,
    connection::Points,
    encode::{At, collect, from_json, to_json, without_nul},
};
use crate::{
    audit::model::{AuditEntry, AuditQuery, AuditRow},
    runs::model::Rows,
};

/// What narrows the log down: organisation, action, principal, time.
const WHERE: &str = "(?1 IS NULL OR org_id = ?1)
     AND (?2 IS NULL OR action = ?2
          OR substr(?2, -1) = '.' AND substr(action, 1, length(?2)) = ?2)
     AND (?3 IS NULL OR principal_id = ?3) AND (?4 IS NULL OR at >= ?4)";

/// Writes the rows of a change, in the transaction that makes it.
pub(super) fn write<'a>(
    tx: &Transaction<'_>,
    entries: impl IntoIterator<Item = &'a AuditEntry>,
) -> StoreResult<()> {
    for entry in entries {
        tx.prepare_cached(
            "INSERT INTO audit (at, org_id, principal_kind, principal_id, role, action, target,
                                request_id, detail)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            At(entry.at),
            entry.org_id,
            entry.principal_kind,
            without_nul(&entry.principal_id),
            entry.role,
            entry.action,
            without_nul(&entry.target),
            entry.request_id,
            entry.detail.as_ref().map(to_json).transpose()?,
        ])?;
    }
    Ok(())
}

#[async_trait]
impl AuditStore for Store {
    async fn note(&self, entries: &[AuditEntry]) -> StoreResult<()> {
        let entries = entries.to_vec();
        let points = Points("store.audit.commit", "store.audit.committed");
        self.db.write(points, move |tx| write(tx, &entries)).await
    }

    async fn list(&self, query: &AuditQuery) -> StoreResult<Rows<AuditRow>> {
        let query = query.clone();
        self.db.read(move |tx| list(tx, &query)).await
    }
}

fn list(tx: &Transaction<'_>, query: &AuditQuery) -> StoreResult<Rows<AuditRow>> {
    let Some(org) = query.visible_org() else { return Ok(Rows { rows: Vec::new(), total: 0 }) };
    let AuditQuery { action, principal, since, limit, offset, .. } = query;
    let since = since.map(At);
    let total = tx
        .prepare_cached(&format!("SELECT count(*) FROM audit WHERE {WHERE}"))?
        .query_row(params![org, action, principal, since], |row| row.get(0))?;
    let sql = format!(
        "SELECT id, at, org_id, principal_kind, principal_id, role, action, target, request_id,
                detail
         FROM audit WHERE {WHERE} ORDER BY id DESC LIMIT ?5 OFFSET ?6"
    );
    let mut statement = tx.prepare_cached(&sql)?;
    let found = statement.query(params![org, action, principal, since, limit, offset])?;
    Ok(Rows { rows: collect(found, row_of)?, total })
}

fn row_of(row: &Row<'_>) -> StoreResult<AuditRow> {
    let detail: Option<String> = row.get(9)?;
    let entry = AuditEntry {
        at: row.get::<_, At>(1)?.0,
        org_id: row.get(2)?,
        principal_kind: row.get(3)?,
        principal_id: row.get(4)?,
        role: row.get(5)?,
        action: row.get(6)?,
        target: row.get(7)?,
        request_id: row.get(8)?,
        detail: detail.as_deref().map(from_json).transpose()?,
    };
    Ok(AuditRow { id: row.get(0)?, entry })
}
