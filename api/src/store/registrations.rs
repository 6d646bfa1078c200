//! Registrations: one-time tokens, the workers that register with them, and what is known of
//! recipients beside their runs. A change writes its row of the audit log in its transaction.

use std::collections::BTreeMap;

use async_trait::async_trait;
use dispatcher_wire::registration::Facts;
use time::OffsetDateTime;
use uuid::Uuid;

use super::StoreResult;
use crate::{
    audit::model::AuditEntry,
    recipients::model::{NewToken, RecipientDetail, RegisterOutcome, Registration, TokenOutcome},
};

/// Tokens, registrations, labels, facts.
#[async_trait]
pub trait RegistrationStore: Send + Sync {
    /// Keeps a token, unless its recipient may not be registered with it or the organisation has
    /// too many; forgets those that ended [`crate::recipients::token::REMEMBERED_FOR`] ago.
    async fn make_token(
        &self,
        token: &NewToken,
        audit: Option<&AuditEntry>,
    ) -> StoreResult<TokenOutcome>;

    /// Registers a worker by [`crate::recipients::token::judge`]: the recipient with its key, name,
    /// labels and facts, and that the token is used, in one commit. Repeating it answers alike and
    /// is not logged again. The row of the log becomes that of the token's organisation.
    async fn register_worker(
        &self,
        wanted: &Registration,
        audit: Option<&AuditEntry>,
    ) -> StoreResult<RegisterOutcome>;

    /// One recipient of an organisation.
    async fn get(&self, org_id: &str, recipient: Uuid) -> StoreResult<Option<RecipientDetail>>;

    /// Removes a recipient: its key is gone, it is in no list; its runs stay, and so does the bond
    /// of its address to its organisation. `false`: there is none.
    async fn remove(
        &self,
        org_id: &str,
        recipient: Uuid,
        at: OffsetDateTime,
        audit: Option<&AuditEntry>,
    ) -> StoreResult<bool>;

    /// Replaces the labels of a recipient. `false`: there is none.
    async fn set_labels(
        &self,
        org_id: &str,
        recipient: Uuid,
        labels: &BTreeMap<String, String>,
        audit: Option<&AuditEntry>,
    ) -> StoreResult<bool>;

    /// Replaces what a worker says of its host, unless something later is known.
    async fn set_facts(
        &self,
        recipient: Uuid,
        facts: &Facts,
        at: OffsetDateTime,
    ) -> StoreResult<()>;
}
