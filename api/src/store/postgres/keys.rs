//! Keys of services. The one row of `auth_state` is locked first, so that changes follow each other
//! and each sees the keys that the one before it has left.

use async_trait::async_trait;
use deadpool_postgres::Transaction;
use time::OffsetDateTime;
use tokio_postgres::Row;

use super::{
    PostgresStore, audit as log,
    connection::{Param, Points, all, committed, one, run as execute},
    fault::Fault,
    rows::{held, holdable},
};
use crate::{
    audit::model::AuditEntry,
    auth::principal::{OrgScope, Role},
    keys::model::{KeyMade, KeyQuery, KeyRevoked, NewServiceKey, Replaced, ServiceKey, objection},
    runs::model::Rows,
    store::{KeyStore, StoreResult},
};

/// What lets a list show a key: its organisation, its service, its life.
macro_rules! shown {
    () => {
        "($1::text IS NULL OR org_id = $1) AND ($2::text IS NULL OR service = $2)
         AND ($3::timestamptz IS NULL
              OR revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $3))"
    };
}

#[async_trait]
impl KeyStore for PostgresStore {
    async fn make(
        &self,
        new: &NewServiceKey,
        replaces: Option<&Replaced>,
        audit: Option<&AuditEntry>,
    ) -> StoreResult<KeyMade> {
        self.retrying(|| async {
            let mut client = self.client().await?;
            let transaction = client.transaction().await?;
            let auth_version = next_version(&transaction).await?;
            if let Some(refused) = refusal(&transaction, new, replaces).await? {
                return Ok(refused);
            }
            insert(&transaction, new).await?;
            if let Some(old) = replaces {
                const END: &str = "
                    UPDATE service_keys SET expires_at = least(expires_at, $2) WHERE id = $1";
                execute(&transaction, END, &[&old.id, &old.ends_at]).await?;
            }
            log::write(&transaction, audit).await?;
            let made = KeyMade::Made { auth_version };
            committed(transaction, Points("store.key.commit", "store.key.committed"), made).await
        })
        .await
    }

    async fn revoke(
        &self,
        id: &str,
        by: &str,
        at: OffsetDateTime,
        audit: Option<&AuditEntry>,
    ) -> StoreResult<Option<KeyRevoked>> {
        const REVOKE: &str = "
            UPDATE service_keys SET revoked_at = $2, revoked_by = $3
            WHERE id = $1 AND revoked_at IS NULL RETURNING *";
        let by = held(by);
        let revoked = self
            .retrying(|| async {
                let mut client = self.client().await?;
                let transaction = client.transaction().await?;
                let auth_version = next_version(&transaction).await?;
                let Some(row) = one(&transaction, REVOKE, &[&id, &at, &by]).await? else {
                    return Ok(None);
                };
                log::write(&transaction, audit).await?;
                let revoked = KeyRevoked { key: key_of(&row)?, auth_version };
                let points = Points("store.revoke.commit", "store.revoke.committed");
                committed(transaction, points, Some(revoked)).await
            })
            .await?;
        if revoked.is_some() {
            return Ok(revoked);
        }
        let Some(key) = self.find(id).await? else { return Ok(None) };
        Ok(Some(KeyRevoked { key, auth_version: self.version().await? }))
    }

    async fn find(&self, id: &str) -> StoreResult<Option<ServiceKey>> {
        const FIND: &str = "SELECT * FROM service_keys WHERE id = $1";
        if !holdable(id) {
            return Ok(None);
        }
        self.retrying(|| async {
            let row = one(&self.client().await?, FIND, &[&id]).await?;
            row.map(|row| key_of(&row)).transpose()
        })
        .await
    }

    async fn list(&self, query: &KeyQuery) -> StoreResult<Rows<ServiceKey>> {
        const PAGE: &str = concat!(
            "SELECT * FROM service_keys WHERE ",
            shown!(),
            " ORDER BY service COLLATE \"C\", org_id COLLATE \"C\" NULLS FIRST, created_at,
                       id COLLATE \"C\" LIMIT $4 OFFSET $5"
        );
        const COUNT: &str = concat!("SELECT count(*) FROM service_keys WHERE ", shown!());
        let KeyQuery { scope, service, live_at, limit, offset } = query;
        let org = match scope {
            OrgScope::All => None,
            OrgScope::One(own) => Some(own.as_str()),
        };
        if ![org, service.as_deref()].into_iter().flatten().all(holdable) {
            return Ok(Rows { rows: Vec::new(), total: 0 });
        }
        self.retrying(|| async {
            let client = self.client().await?;
            let page: [Param<'_>; 5] = [&org, service, live_at, limit, offset];
            let rows = all(&client, PAGE, &page).await?;
            let total = one(&client, COUNT, &[&org, service, live_at]).await?;
            let rows = rows.iter().map(key_of).collect::<Result<_, _>>()?;
            Ok(Rows { rows, total: total.map_or(Ok(0), |row| row.try_get(0))? })
        })
        .await
    }

    async fn version(&self) -> StoreResult<u64> {
        const VERSION: &str = "SELECT version FROM auth_state";
        self.retrying(|| async { version_of(one(&self.client().await?, VERSION, &[]).await?) })
            .await
    }

    async fn live(&self, now: OffsetDateTime) -> StoreResult<(u64, Vec<(ServiceKey, Vec<u8>)>)> {
        // One statement sees one moment.
        const LIVE: &str = "
            SELECT s.version, k.* FROM auth_state s LEFT JOIN service_keys k
                ON k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > $1)
            ORDER BY k.id COLLATE \"C\"";
        self.retrying(|| async {
            let rows = all(&self.client().await?, LIVE, &[&now]).await?;
            let mut keys = Vec::new();
            for row in &rows {
                if row.try_get::<_, Option<&str>>("id")?.is_some() {
                    keys.push((key_of(row)?, row.try_get("digest")?));
                }
            }
            Ok((version_of(rows.into_iter().next())?, keys))
        })
        .await
    }
}

/// Raises the version; until the end of the transaction nobody else can.
async fn next_version(transaction: &Transaction<'_>) -> Result<u64, Fault> {
    const NEXT: &str = "UPDATE auth_state SET version = version + 1 RETURNING version";
    version_of(one(transaction, NEXT, &[]).await?)
}

fn version_of(row: Option<Row>) -> Result<u64, Fault> {
    let row = row.ok_or_else(|| Fault::broken("the auth state has no version"))?;
    let version: i64 = row.try_get("version")?;
    u64::try_from(version).map_err(|_| Fault::broken("the auth state's version is negative"))
}

async fn refusal(
    transaction: &Transaction<'_>,
    new: &NewServiceKey,
    replaces: Option<&Replaced>,
) -> Result<Option<KeyMade>, Fault> {
    const TAKEN: &str = "SELECT 1 FROM service_keys WHERE id = $1";
    const LIVE: &str = "
        SELECT id FROM service_keys
        WHERE service = $1 AND org_id IS NOT DISTINCT FROM $2::text AND revoked_at IS NULL
          AND (expires_at IS NULL OR expires_at > $3)
        ORDER BY created_at, id";
    let key = &new.key;
    if one(transaction, TAKEN, &[&key.id]).await?.is_some() {
        return Ok(Some(KeyMade::IdTaken));
    }
    let rows = all(transaction, LIVE, &[&key.service, &key.org_id, &key.created_at]).await?;
    let live = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
    Ok(objection(&live, replaces))
}

async fn insert(transaction: &Transaction<'_>, new: &NewServiceKey) -> Result<(), Fault> {
    const INSERT: &str = "
        INSERT INTO service_keys (id, service, org_id, role, digest, created_at, created_by,
                                  expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    let ServiceKey { id, service, org_id, role, created_at, created_by, expires_at, .. } = &new.key;
    let (role, created_by) = (role.as_str(), held(created_by));
    let params: [Param<'_>; 8] =
        [id, service, org_id, &role, &new.digest, created_at, &created_by, expires_at];
    execute(transaction, INSERT, &params).await?;
    Ok(())
}

fn key_of(row: &Row) -> Result<ServiceKey, Fault> {
    let role: &str = row.try_get("role")?;
    Ok(ServiceKey {
        id: row.try_get("id")?,
        service: row.try_get("service")?,
        org_id: row.try_get("org_id")?,
        role: Role::parse(role).ok_or_else(|| Fault::broken("a key has a role nobody knows"))?,
        created_at: row.try_get("created_at")?,
        created_by: row.try_get("created_by")?,
        expires_at: row.try_get("expires_at")?,
        revoked_at: row.try_get("revoked_at")?,
        revoked_by: row.try_get("revoked_by")?,
    })
}
