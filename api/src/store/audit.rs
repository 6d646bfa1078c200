//! The audit log. Most rows are written by the methods that make the change, which take them as an
//! argument; here is what is left: reading, and changes that are made outside of the database.

use async_trait::async_trait;

use super::StoreResult;
use crate::{
    audit::model::{AuditEntry, AuditQuery, AuditRow},
    runs::model::Rows,
};

/// The audit log.
#[async_trait]
pub trait AuditStore: Send + Sync {
    /// Writes rows of changes that no other method of a store makes.
    async fn note(&self, entries: &[AuditEntry]) -> StoreResult<()>;

    /// A page of rows, newest first.
    async fn list(&self, query: &AuditQuery) -> StoreResult<Rows<AuditRow>>;
}
