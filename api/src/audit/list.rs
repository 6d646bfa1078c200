//! The audit log as admins read it.

use dispatcher_wire::admin::AuditView;

use super::model::{AuditQuery, AuditRow};
use crate::{
    events::model::timestamp,
    runs::model::Rows,
    store::{AuditStore, StoreResult},
};

/// A page of rows as it is answered.
///
/// # Errors
/// When the database fails.
pub async fn page(store: &dyn AuditStore, query: &AuditQuery) -> StoreResult<Rows<AuditView>> {
    let found = store.list(query).await?;
    Ok(Rows { rows: found.rows.into_iter().map(view).collect(), total: found.total })
}

fn view(row: AuditRow) -> AuditView {
    let AuditRow { id, entry } = row;
    AuditView {
        id,
        at: timestamp(entry.at),
        org_id: entry.org_id,
        principal_kind: entry.principal_kind,
        principal_id: entry.principal_id,
        role: entry.role,
        action: entry.action,
        target: entry.target,
        request_id: entry.request_id,
        detail: entry.detail,
    }
}
