//! Registrations: tokens, the workers that register with them, labels and facts.

use std::collections::BTreeMap;

use async_trait::async_trait;
use deadpool_postgres::Transaction;
use dispatcher_wire::registration::Facts;
use serde_json::Value;
use time::OffsetDateTime;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    PostgresStore, audit as log,
    connection::{Param, Points, committed, one, run as execute},
    fault::Fault,
    recipients::{SUMMARY, summary},
    rows::{held, holdable},
};
use crate::{
    audit::model::AuditEntry,
    recipients::{
        model::{NewToken, RecipientDetail, RegisterOutcome, Registration, TokenOutcome},
        token::{self, Existing, StoredToken, Verdict},
    },
    store::{StoreResult, registrations::RegistrationStore},
};

#[async_trait]
impl RegistrationStore for PostgresStore {
    async fn make_token(
        &self,
        token: &NewToken,
        audit: Option<&AuditEntry>,
    ) -> StoreResult<TokenOutcome> {
        self.retrying(|| async {
            let mut client = self.client().await?;
            let transaction = client.transaction().await?;
            let outcome = make(&transaction, token).await?;
            if outcome == TokenOutcome::Made {
                log::write(&transaction, audit).await?;
            }
            let points = Points("store.token.commit", "store.token.committed");
            committed(transaction, points, outcome).await
        })
        .await
    }

    async fn register_worker(
        &self,
        wanted: &Registration,
        audit: Option<&AuditEntry>,
    ) -> StoreResult<RegisterOutcome> {
        self.retrying(|| async {
            let mut client = self.client().await?;
            let transaction = client.transaction().await?;
            let outcome = register(&transaction, wanted, audit).await?;
            let points = Points("store.register_worker.commit", "store.register_worker.committed");
            committed(transaction, points, outcome).await
        })
        .await
    }

    async fn get(&self, org_id: &str, recipient: Uuid) -> StoreResult<Option<RecipientDetail>> {
        let text =
            format!("SELECT {SUMMARY} WHERE p.id = $1 AND p.org_id = $2 AND p.removed_at IS NULL");
        self.retrying(|| async {
            let row = one(&self.client().await?, &text, &[&recipient, &held(org_id)]).await?;
            row.as_ref().map(detail).transpose()
        })
        .await
    }

    async fn remove(
        &self,
        org_id: &str,
        recipient: Uuid,
        at: OffsetDateTime,
        audit: Option<&AuditEntry>,
    ) -> StoreResult<bool> {
        const REMOVE: &str = "
            UPDATE recipients SET removed_at = $3, key_digest = NULL, last_seen = NULL
            WHERE id = $1 AND org_id = $2 AND removed_at IS NULL";
        self.retrying(|| async {
            self.change_one(REMOVE, &[&recipient, &held(org_id), &at], audit).await
        })
        .await
    }

    async fn set_labels(
        &self,
        org_id: &str,
        recipient: Uuid,
        labels: &BTreeMap<String, String>,
        audit: Option<&AuditEntry>,
    ) -> StoreResult<bool> {
        const SET: &str = "
            UPDATE recipients SET labels = $3
            WHERE id = $1 AND org_id = $2 AND removed_at IS NULL";
        let labels = document(labels);
        self.retrying(|| async {
            self.change_one(SET, &[&recipient, &held(org_id), &labels], audit).await
        })
        .await
    }

    async fn set_facts(
        &self,
        recipient: Uuid,
        facts: &Facts,
        at: OffsetDateTime,
    ) -> StoreResult<()> {
        const SET: &str = "
            UPDATE recipients SET facts = $2, facts_at = $3
            WHERE id = $1 AND removed_at IS NULL AND (facts_at IS NULL OR facts_at <= $3)";
        let facts = Value::Object(facts.clone());
        self.retrying(|| async {
            execute(&self.client().await?, SET, &[&recipient, &facts, &at]).await
        })
        .await?;
        Ok(())
    }
}

impl PostgresStore {
    /// Changes one row, if it is there, and logs it.
    async fn change_one(
        &self,
        text: &str,
        params: &[Param<'_>],
        audit: Option<&AuditEntry>,
    ) -> Result<bool, Fault> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await?;
        let changed = execute(&transaction, text, params).await? == 1;
        if changed {
            log::write(&transaction, audit).await?;
        }
        let points = Points("store.recipient.commit", "store.recipient.committed");
        committed(transaction, points, changed).await
    }
}

fn detail(row: &Row) -> Result<RecipientDetail, Fault> {
    let facts: Option<Value> = row.try_get("facts")?;
    Ok(RecipientDetail {
        summary: summary(row)?,
        facts: facts.and_then(|facts| match facts {
            Value::Object(facts) => Some(facts),
            _ => None,
        }),
        facts_at: row.try_get("facts_at")?,
    })
}

fn document(labels: &BTreeMap<String, String>) -> Value {
    labels.iter().map(|(name, value)| (held(name), Value::from(held(value)))).collect()
}

async fn make(transaction: &Transaction<'_>, token: &NewToken) -> Result<TokenOutcome, Fault> {
    const FORGET: &str = "DELETE FROM registrations WHERE expires_at < $1";
    const LIVE: &str = "
        SELECT count(*) FROM registrations
        WHERE org_id = $1 AND used_at IS NULL AND expires_at > $2";
    const KEEP: &str = "
        INSERT INTO registrations (digest, org_id, recipient, name, labels, created_at, created_by,
                                   expires_at, may_replace)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    let org_id = held(&token.org_id);
    if let Some(recipient) = token.recipient
        && let Some(existing) = existing(transaction, recipient).await?
    {
        if existing.org_id != org_id {
            return Ok(TokenOutcome::OtherOrg);
        }
        if !token.may_replace {
            return Ok(TokenOutcome::Registered);
        }
    }
    execute(transaction, FORGET, &[&token::forgotten_before(token.created_at)]).await?;
    let live = one(transaction, LIVE, &[&org_id, &token.created_at]).await?;
    if live.map_or(Ok(0), |row| row.try_get::<_, i64>(0))? >= token::MAX_LIVE {
        return Ok(TokenOutcome::TooMany);
    }
    let (name, labels) = (token.name.as_deref().map(held), document(&token.labels));
    let by = held(&token.created_by);
    let params: [Param<'_>; 9] = [
        &token.digest,
        &org_id,
        &token.recipient,
        &name,
        &labels,
        &token.created_at,
        &by,
        &token.expires_at,
        &token.may_replace,
    ];
    execute(transaction, KEEP, &params).await?;
    Ok(TokenOutcome::Made)
}

async fn register(
    transaction: &Transaction<'_>,
    wanted: &Registration,
    audit: Option<&AuditEntry>,
) -> Result<RegisterOutcome, Fault> {
    let Some(stored) = stored(transaction, &wanted.token_digests).await? else {
        return Ok(RegisterOutcome::UnknownToken);
    };
    let existing = existing(transaction, wanted.recipient).await?;
    let replace = match token::judge(&stored, existing.as_ref(), wanted) {
        Verdict::Answer(outcome) => return Ok(outcome),
        Verdict::Create => false,
        Verdict::Replace => true,
    };
    if !write(transaction, &stored.token, wanted, replace).await? {
        return Ok(RegisterOutcome::Taken);
    }
    const USED: &str = "
        UPDATE registrations SET used_at = $2, used_by = $3, used_key_digest = $4
        WHERE digest = $1";
    let (digest, key) = (&stored.token.digest, wanted.key_digests.first());
    execute(transaction, USED, &[digest, &wanted.at, &wanted.recipient, &key]).await?;
    let audit = audit.cloned().map(|entry| entry.of_org(&stored.token.org_id));
    log::write(transaction, audit.as_ref()).await?;
    let name = token::name_of(&stored.token, wanted).to_owned();
    Ok(RegisterOutcome::Registered { org_id: stored.token.org_id, name })
}

/// Writes the recipient. `false`: somebody else did a moment ago.
async fn write(
    transaction: &Transaction<'_>,
    token: &NewToken,
    wanted: &Registration,
    replace: bool,
) -> Result<bool, Fault> {
    const CREATE: &str = "
        INSERT INTO recipients (id, org_id, name, key_digest, created_at, labels, facts, facts_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $5) ON CONFLICT (id) DO NOTHING";
    // Without labels of its own, a token leaves those that there are.
    const REPLACE: &str = "
        UPDATE recipients SET name = $3, key_digest = $4, facts = $7, facts_at = $5,
            removed_at = NULL,
            labels = CASE WHEN $6::json::jsonb = '{}' THEN labels ELSE $6::json END
        WHERE id = $1 AND org_id = $2";
    let name = held(token::name_of(token, wanted));
    let (labels, facts) = (document(&token.labels), Value::Object(wanted.facts.clone()));
    let key = wanted.key_digests.first();
    let params: [Param<'_>; 7] =
        [&wanted.recipient, &token.org_id, &name, &key, &wanted.at, &labels, &facts];
    let text = if replace { REPLACE } else { CREATE };
    Ok(execute(transaction, text, &params).await? == 1)
}

/// The token with one of these digests, locked.
async fn stored(
    transaction: &Transaction<'_>,
    digests: &[Vec<u8>],
) -> Result<Option<StoredToken>, Fault> {
    const TOKEN: &str = "SELECT * FROM registrations WHERE digest = ANY($1) FOR UPDATE";
    let Some(row) = one(transaction, TOKEN, &[&digests]).await? else { return Ok(None) };
    let labels: Option<Value> = row.try_get("labels")?;
    let labels = labels.map(serde_json::from_value).transpose();
    let labels = labels.map_err(|error| Fault::broken(format!("labels that are none: {error}")))?;
    let token = NewToken {
        digest: row.try_get("digest")?,
        org_id: row.try_get("org_id")?,
        recipient: row.try_get("recipient")?,
        may_replace: row.try_get("may_replace")?,
        name: row.try_get("name")?,
        labels: labels.unwrap_or_default(),
        created_by: row.try_get("created_by")?,
        created_at: row.try_get("created_at")?,
        expires_at: row.try_get("expires_at")?,
    };
    let by: Option<Uuid> = row.try_get("used_by")?;
    let key: Option<Vec<u8>> = row.try_get("used_key_digest")?;
    Ok(Some(StoredToken { token, used: by.map(|by| (by, key.unwrap_or_default())) }))
}

/// The recipient of that address, removed or not, locked.
async fn existing(
    transaction: &Transaction<'_>,
    recipient: Uuid,
) -> Result<Option<Existing>, Fault> {
    const EXISTING: &str = "
        SELECT org_id, name, key_digest, removed_at IS NOT NULL AS removed
        FROM recipients WHERE id = $1 FOR UPDATE";
    let Some(row) = one(transaction, EXISTING, &[&recipient]).await? else { return Ok(None) };
    Ok(Some(Existing {
        org_id: row.try_get("org_id")?,
        name: row.try_get("name")?,
        key_digest: row.try_get("key_digest")?,
        removed: row.try_get("removed")?,
    }))
}

/// Whether labels can be those of anything.
pub(super) fn may_match(labels: &BTreeMap<String, String>) -> bool {
    labels.iter().all(|(name, value)| holdable(name) && holdable(value))
}

/// Labels that something must have, for `@>`.
pub(super) fn wanted_labels(labels: &BTreeMap<String, String>) -> Value {
    document(labels)
}
