//! [`KeyStore`] on SQLite, where one transaction writes at a time.

use async_trait::async_trait;
use rusqlite::{Row, Transaction, params};
use time::OffsetDateTime;

use super::{
    super::{KeyStore, StoreError, StoreResult},
    Store, audit as log,
    connection::Points,
    encode::{At, collect, first, without_nul},
};
use crate::{
    audit::model::AuditEntry,
    auth::principal::{OrgScope, Role},
    keys::model::{KeyMade, KeyQuery, KeyRevoked, NewServiceKey, Replaced, ServiceKey, objection},
    runs::model::Rows,
};

/// The columns that [`key_of`] reads.
const KEY: &str = "id, service, org_id, role, created_at, created_by, expires_at, revoked_at, \
     revoked_by";
/// What lets a list show a key: its organisation, its service, its life.
const SHOWN: &str = "(?1 IS NULL OR org_id = ?1) AND (?2 IS NULL OR service = ?2)
     AND (?3 IS NULL OR revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?3))";

#[async_trait]
impl KeyStore for Store {
    async fn make(
        &self,
        new: &NewServiceKey,
        replaces: Option<&Replaced>,
        audit: Option<&AuditEntry>,
    ) -> StoreResult<KeyMade> {
        let (new, replaces, audit) = (new.clone(), replaces.cloned(), audit.cloned());
        let points = Points("store.key.commit", "store.key.committed");
        let work = move |tx: &Transaction<'_>| make(tx, &new, replaces.as_ref(), audit.as_ref());
        self.db.write(points, work).await
    }

    async fn revoke(
        &self,
        id: &str,
        by: &str,
        at: OffsetDateTime,
        audit: Option<&AuditEntry>,
    ) -> StoreResult<Option<KeyRevoked>> {
        let (id, by, audit) = (id.to_owned(), by.to_owned(), audit.cloned());
        let points = Points("store.revoke.commit", "store.revoke.committed");
        self.db.write(points, move |tx| revoke(tx, &id, &by, at, audit.as_ref())).await
    }

    async fn find(&self, id: &str) -> StoreResult<Option<ServiceKey>> {
        let id = id.to_owned();
        self.db.read(move |tx| find(tx, &id)).await
    }

    async fn list(&self, query: &KeyQuery) -> StoreResult<Rows<ServiceKey>> {
        let query = query.clone();
        self.db.read(move |tx| list(tx, &query)).await
    }

    async fn version(&self) -> StoreResult<u64> {
        self.db.read(version).await
    }

    async fn live(&self, now: OffsetDateTime) -> StoreResult<(u64, Vec<(ServiceKey, Vec<u8>)>)> {
        let sql = format!(
            "SELECT {KEY}, digest FROM service_keys
             WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?1) ORDER BY id"
        );
        let work = move |tx: &Transaction<'_>| {
            let mut statement = tx.prepare_cached(&sql)?;
            let found = statement.query([At(now)])?;
            let keys = collect(found, |row| Ok((key_of(row)?, row.get(9)?)))?;
            Ok((version(tx)?, keys))
        };
        self.db.read(work).await
    }
}

fn make(
    tx: &Transaction<'_>,
    new: &NewServiceKey,
    replaces: Option<&Replaced>,
    audit: Option<&AuditEntry>,
) -> StoreResult<KeyMade> {
    if find(tx, &new.key.id)?.is_some() {
        return Ok(KeyMade::IdTaken);
    }
    if let Some(refused) = objection(&live_beside(tx, &new.key)?, replaces) {
        return Ok(refused);
    }
    insert(tx, new)?;
    if let Some(old) = replaces {
        tx.prepare_cached(
            "UPDATE service_keys SET expires_at = min(coalesce(expires_at, ?2), ?2) WHERE id = ?1",
        )?
        .execute(params![old.id, At(old.ends_at)])?;
    }
    log::write(tx, audit)?;
    Ok(KeyMade::Made { auth_version: next_version(tx)? })
}

/// The live keys of the same service and organisation.
fn live_beside(tx: &Transaction<'_>, key: &ServiceKey) -> StoreResult<Vec<String>> {
    let mut statement = tx.prepare_cached(
        "SELECT id FROM service_keys
         WHERE service = ?1 AND org_id IS ?2 AND revoked_at IS NULL
           AND (expires_at IS NULL OR expires_at > ?3)
         ORDER BY created_at, id",
    )?;
    let found = statement.query(params![key.service, key.org_id, At(key.created_at)])?;
    collect(found, |row| Ok(row.get(0)?))
}

fn insert(tx: &Transaction<'_>, new: &NewServiceKey) -> StoreResult<()> {
    let key = &new.key;
    tx.prepare_cached(
        "INSERT INTO service_keys (id, service, org_id, role, digest, created_at, created_by,
                                   expires_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        key.id,
        key.service,
        key.org_id,
        key.role.as_str(),
        new.digest,
        At(key.created_at),
        without_nul(&key.created_by),
        key.expires_at.map(At),
    ])?;
    Ok(())
}

fn revoke(
    tx: &Transaction<'_>,
    id: &str,
    by: &str,
    at: OffsetDateTime,
    audit: Option<&AuditEntry>,
) -> StoreResult<Option<KeyRevoked>> {
    let changed = tx
        .prepare_cached(
            "UPDATE service_keys SET revoked_at = ?2, revoked_by = ?3
             WHERE id = ?1 AND revoked_at IS NULL",
        )?
        .execute(params![id, At(at), without_nul(by)])?;
    let auth_version = if changed > 0 {
        log::write(tx, audit)?;
        next_version(tx)?
    } else {
        version(tx)?
    };
    Ok(find(tx, id)?.map(|key| KeyRevoked { key, auth_version }))
}

fn next_version(tx: &Transaction<'_>) -> StoreResult<u64> {
    tx.prepare_cached("UPDATE auth_state SET version = version + 1")?.execute([])?;
    version(tx)
}

fn version(tx: &Transaction<'_>) -> StoreResult<u64> {
    let mut statement = tx.prepare_cached("SELECT version FROM auth_state")?;
    Ok(statement.query_row([], |row| row.get(0))?)
}

fn find(tx: &Transaction<'_>, id: &str) -> StoreResult<Option<ServiceKey>> {
    let sql = format!("SELECT {KEY} FROM service_keys WHERE id = ?1");
    first(tx.prepare_cached(&sql)?.query([id])?, key_of)
}

fn list(tx: &Transaction<'_>, query: &KeyQuery) -> StoreResult<Rows<ServiceKey>> {
    let org = match &query.scope {
        OrgScope::All => None,
        OrgScope::One(own) => Some(own),
    };
    let (service, live_at) = (&query.service, query.live_at.map(At));
    let total = tx
        .prepare_cached(&format!("SELECT count(*) FROM service_keys WHERE {SHOWN}"))?
        .query_row(params![org, service, live_at], |row| row.get(0))?;
    let sql = format!(
        "SELECT {KEY} FROM service_keys WHERE {SHOWN}
         ORDER BY service, org_id NULLS FIRST, created_at, id LIMIT ?4 OFFSET ?5"
    );
    let mut statement = tx.prepare_cached(&sql)?;
    let found = statement.query(params![org, service, live_at, query.limit, query.offset])?;
    Ok(Rows { rows: collect(found, key_of)?, total })
}

fn key_of(row: &Row<'_>) -> StoreResult<ServiceKey> {
    let role = row.get_ref(3)?.as_str().map_err(rusqlite::Error::from)?;
    let unknown = || StoreError::Failed(format!("a key has the role {role:?}, which nobody knows"));
    Ok(ServiceKey {
        id: row.get(0)?,
        service: row.get(1)?,
        org_id: row.get(2)?,
        role: Role::parse(role).ok_or_else(unknown)?,
        created_at: row.get::<_, At>(4)?.0,
        created_by: row.get(5)?,
        expires_at: row.get::<_, Option<At>>(6)?.map(|at| at.0),
        revoked_at: row.get::<_, Option<At>>(7)?.map(|at| at.0),
        revoked_by: row.get(8)?,
    })
}
