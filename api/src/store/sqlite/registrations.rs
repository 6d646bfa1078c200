//! [`RegistrationStore`] on SQLite: tokens, the workers that register with them, labels and facts.

use std::collections::BTreeMap;

use async_trait::async_trait;
use dispatcher_wire::registration::Facts;
use rusqlite::{OptionalExtension, Row, Transaction, params};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    super::{StoreResult, registrations::RegistrationStore},
    Store, audit as log,
    connection::Points,
    encode::{At, first, from_json, to_json},
    recipients::{SUMMARY, summary},
};
use crate::{
    audit::model::AuditEntry,
    recipients::{
        model::{NewToken, RecipientDetail, RegisterOutcome, Registration, TokenOutcome},
        token::{self, Existing, StoredToken, Verdict},
    },
};

#[async_trait]
impl RegistrationStore for Store {
    async fn make_token(
        &self,
        token: &NewToken,
        audit: Option<&AuditEntry>,
    ) -> StoreResult<TokenOutcome> {
        let (token, audit) = (token.clone(), audit.cloned());
        let points = Points("store.token.commit", "store.token.committed");
        let work = move |tx: &Transaction<'_>| {
            let outcome = make(tx, &token)?;
            if outcome == TokenOutcome::Made {
                log::write(tx, audit.as_ref())?;
            }
            Ok(outcome)
        };
        self.db.write(points, work).await
    }

    async fn register_worker(
        &self,
        wanted: &Registration,
        audit: Option<&AuditEntry>,
    ) -> StoreResult<RegisterOutcome> {
        let (wanted, audit) = (wanted.clone(), audit.cloned());
        let points = Points("store.register_worker.commit", "store.register_worker.committed");
        self.db.write(points, move |tx| register(tx, &wanted, audit)).await
    }

    async fn get(&self, org_id: &str, recipient: Uuid) -> StoreResult<Option<RecipientDetail>> {
        let org_id = org_id.to_owned();
        self.db.read(move |tx| get(tx, &org_id, recipient)).await
    }

    async fn remove(
        &self,
        org_id: &str,
        recipient: Uuid,
        at: OffsetDateTime,
        audit: Option<&AuditEntry>,
    ) -> StoreResult<bool> {
        let (org_id, audit) = (org_id.to_owned(), audit.cloned());
        let points = Points("store.remove.commit", "store.remove.committed");
        let remove = move |tx: &Transaction<'_>| {
            let removed = tx
                .prepare_cached(
                    "UPDATE recipients SET removed_at = ?3, key_digest = NULL, last_seen = NULL
                     WHERE id = ?1 AND org_id = ?2 AND removed_at IS NULL",
                )?
                .execute(params![recipient, org_id, At(at)])?;
            if removed == 1 {
                log::write(tx, audit.as_ref())?;
            }
            Ok(removed == 1)
        };
        self.db.write(points, remove).await
    }

    async fn set_labels(
        &self,
        org_id: &str,
        recipient: Uuid,
        labels: &BTreeMap<String, String>,
        audit: Option<&AuditEntry>,
    ) -> StoreResult<bool> {
        let (org_id, labels) = (org_id.to_owned(), to_json(labels)?);
        let audit = audit.cloned();
        let points = Points("store.labels.commit", "store.labels.committed");
        let set = move |tx: &Transaction<'_>| {
            let set = tx
                .prepare_cached(
                    "UPDATE recipients SET labels = ?3
                     WHERE id = ?1 AND org_id = ?2 AND removed_at IS NULL",
                )?
                .execute(params![recipient, org_id, labels])?;
            if set == 1 {
                log::write(tx, audit.as_ref())?;
            }
            Ok(set == 1)
        };
        self.db.write(points, set).await
    }

    async fn set_facts(
        &self,
        recipient: Uuid,
        facts: &Facts,
        at: OffsetDateTime,
    ) -> StoreResult<()> {
        let facts = to_json(facts)?;
        let points = Points("store.facts.commit", "store.facts.committed");
        let set = move |tx: &Transaction<'_>| {
            tx.prepare_cached(
                "UPDATE recipients SET facts = ?2, facts_at = ?3
                 WHERE id = ?1 AND removed_at IS NULL AND (facts_at IS NULL OR facts_at <= ?3)",
            )?
            .execute(params![recipient, facts, At(at)])?;
            Ok(())
        };
        self.db.write(points, set).await
    }
}

fn get(
    tx: &Transaction<'_>,
    org_id: &str,
    recipient: Uuid,
) -> StoreResult<Option<RecipientDetail>> {
    let sql =
        format!("SELECT {SUMMARY} WHERE p.id = ?1 AND p.org_id = ?2 AND p.removed_at IS NULL");
    let mut statement = tx.prepare_cached(&sql)?;
    first(statement.query(params![recipient, org_id])?, |row| {
        let facts: Option<String> = row.get("facts")?;
        Ok(RecipientDetail {
            summary: summary(row)?,
            facts: facts.map(|facts| from_json(&facts)).transpose()?,
            facts_at: row.get::<_, Option<At>>("facts_at")?.map(|at| at.0),
        })
    })
}

fn make(tx: &Transaction<'_>, token: &NewToken) -> StoreResult<TokenOutcome> {
    let existing = token.recipient.map(|recipient| existing(tx, recipient)).transpose()?;
    if let Some(existing) = existing.flatten() {
        if existing.org_id != token.org_id {
            return Ok(TokenOutcome::OtherOrg);
        }
        if !token.may_replace {
            return Ok(TokenOutcome::Registered);
        }
    }
    tx.prepare_cached("DELETE FROM registrations WHERE expires_at < ?1")?
        .execute([At(token::forgotten_before(token.created_at))])?;
    let live: i64 = tx
        .prepare_cached(
            "SELECT count(*) FROM registrations
             WHERE org_id = ?1 AND used_at IS NULL AND expires_at > ?2",
        )?
        .query_row(params![token.org_id, At(token.created_at)], |row| row.get(0))?;
    if live >= token::MAX_LIVE {
        return Ok(TokenOutcome::TooMany);
    }
    tx.prepare_cached(
        "INSERT INTO registrations (digest, org_id, recipient, name, labels, created_at, created_by,
                                    expires_at, may_replace)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute(params![
        token.digest,
        token.org_id,
        token.recipient,
        token.name,
        to_json(&token.labels)?,
        At(token.created_at),
        token.created_by,
        At(token.expires_at),
        token.may_replace,
    ])?;
    Ok(TokenOutcome::Made)
}

fn register(
    tx: &Transaction<'_>,
    wanted: &Registration,
    audit: Option<AuditEntry>,
) -> StoreResult<RegisterOutcome> {
    let Some(stored) = stored(tx, &wanted.token_digests)? else {
        return Ok(RegisterOutcome::UnknownToken);
    };
    let existing = existing(tx, wanted.recipient)?;
    let replace = match token::judge(&stored, existing.as_ref(), wanted) {
        Verdict::Answer(outcome) => return Ok(outcome),
        Verdict::Create => false,
        Verdict::Replace => true,
    };
    write(tx, &stored.token, wanted, replace)?;
    tx.prepare_cached(
        "UPDATE registrations SET used_at = ?2, used_by = ?3, used_key_digest = ?4
         WHERE digest = ?1",
    )?
    .execute(params![
        stored.token.digest,
        At(wanted.at),
        wanted.recipient,
        wanted.key_digests.first(),
    ])?;
    log::write(tx, audit.map(|entry| entry.of_org(&stored.token.org_id)).as_ref())?;
    let name = token::name_of(&stored.token, wanted).to_owned();
    Ok(RegisterOutcome::Registered { org_id: stored.token.org_id, name })
}

fn write(
    tx: &Transaction<'_>,
    token: &NewToken,
    wanted: &Registration,
    replace: bool,
) -> StoreResult<()> {
    const CREATE: &str = "
        INSERT INTO recipients (id, org_id, name, key_digest, created_at, labels, facts, facts_at)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?5)";
    // Without labels of its own, a token leaves those that there are.
    const REPLACE: &str = "
        UPDATE recipients SET name = ?3, key_digest = ?4, facts = ?7, facts_at = ?5,
            removed_at = NULL, labels = CASE WHEN ?6 = '{}' THEN labels ELSE ?6 END
        WHERE id = ?1 AND org_id = ?2";
    tx.prepare_cached(if replace { REPLACE } else { CREATE })?.execute(params![
        wanted.recipient,
        token.org_id,
        token::name_of(token, wanted),
        wanted.key_digests.first(),
        At(wanted.at),
        to_json(&token.labels)?,
        to_json(&wanted.facts)?,
    ])?;
    Ok(())
}

/// The token with one of these digests.
fn stored(tx: &Transaction<'_>, digests: &[Vec<u8>]) -> StoreResult<Option<StoredToken>> {
    let mut statement = tx.prepare_cached("SELECT * FROM registrations WHERE digest = ?1")?;
    for digest in digests {
        if let Some(found) = first(statement.query([digest])?, token_of)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn token_of(row: &Row<'_>) -> StoreResult<StoredToken> {
    let labels: Option<String> = row.get("labels")?;
    let token = NewToken {
        digest: row.get("digest")?,
        org_id: row.get("org_id")?,
        recipient: row.get("recipient")?,
        may_replace: row.get("may_replace")?,
        name: row.get("name")?,
        labels: labels.map(|labels| from_json(&labels)).transpose()?.unwrap_or_default(),
        created_by: row.get("created_by")?,
        created_at: row.get::<_, At>("created_at")?.0,
        expires_at: row.get::<_, At>("expires_at")?.0,
    };
    let by: Option<Uuid> = row.get("used_by")?;
    let key: Option<Vec<u8>> = row.get("used_key_digest")?;
    Ok(StoredToken { token, used: by.map(|by| (by, key.unwrap_or_default())) })
}

/// The recipient of that address, removed or not.
fn existing(tx: &Transaction<'_>, recipient: Uuid) -> StoreResult<Option<Existing>> {
    let mut statement = tx.prepare_cached(
        "SELECT org_id, name, key_digest, removed_at IS NOT NULL FROM recipients WHERE id = ?1",
    )?;
    let found = statement.query_row([recipient], |row| {
        Ok(Existing {
            org_id: row.get(0)?,
            name: row.get(1)?,
            key_digest: row.get(2)?,
            removed: row.get(3)?,
        })
    });
    Ok(found.optional()?)
}
