//! The registry of processes, on the server's clock.

use std::time::Duration;

use async_trait::async_trait;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    PostgresStore,
    connection::{Param, all, run as execute},
    fault::Fault,
    rows::held,
};
use crate::{
    instances::model::{Instance, KnownInstance, ProcessKind, Sign},
    store::{
        StoreResult,
        instances::{InstanceStore, MOST},
    },
};

#[async_trait]
impl InstanceStore for PostgresStore {
    async fn beat(&self, own: &Instance, sign: Sign) -> StoreResult<()> {
        // Rows of processes that died long ago go along.
        const BEAT: &str = "
            WITH forgotten AS (
                DELETE FROM instances
                WHERE seen_at < clock_timestamp() - interval '1 day' AND id <> $1)
            INSERT INTO instances (id, kind, name, host, version, started_at, seen_at,
                                   auth_version, draining)
            VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp(), $7, $8)
            ON CONFLICT (id) DO UPDATE
            SET seen_at = clock_timestamp(), auth_version = excluded.auth_version,
                draining = excluded.draining";
        let Instance { id, kind, name, host, version, started_at } = own;
        let kind = kind.as_str();
        let (name, host, version) = (held(name), held(host), held(version));
        let auth_version = i64::try_from(sign.auth_version).unwrap_or(i64::MAX);
        self.retrying(|| async {
            let params: [Param<'_>; 8] =
                [id, &kind, &name, &host, &version, started_at, &auth_version, &sign.draining];
            execute(&self.client().await?, BEAT, &params).await
        })
        .await?;
        Ok(())
    }

    async fn remove(&self, id: Uuid) -> StoreResult<()> {
        const REMOVE: &str = "DELETE FROM instances WHERE id = $1";
        self.retrying(|| async { execute(&self.client().await?, REMOVE, &[&id]).await }).await?;
        Ok(())
    }

    async fn seen_within(&self, age: Duration) -> StoreResult<Vec<KnownInstance>> {
        const SEEN: &str = "
            SELECT i.*, extract(epoch FROM clock_timestamp() - i.seen_at)::float8 AS silent
            FROM instances i WHERE i.seen_at >= clock_timestamp() - $1::float8 * interval '1 second'
            ORDER BY i.kind COLLATE \"C\", i.name COLLATE \"C\", i.id LIMIT $2";
        let age = age.as_secs_f64();
        self.retrying(|| async {
            let rows = all(&self.client().await?, SEEN, &[&age, &MOST]).await?;
            rows.iter().map(known).collect()
        })
        .await
    }
}

fn known(row: &Row) -> Result<KnownInstance, Fault> {
    let kind: &str = row.try_get("kind")?;
    let unknown = || Fault::broken(format!("there is no kind of process {kind}"));
    let auth_version: i64 = row.try_get("auth_version")?;
    let silent: f64 = row.try_get("silent")?;
    Ok(KnownInstance {
        instance: Instance {
            id: row.try_get("id")?,
            kind: ProcessKind::parse(kind).ok_or_else(unknown)?,
            name: row.try_get("name")?,
            host: row.try_get("host")?,
            version: row.try_get("version")?,
            started_at: row.try_get("started_at")?,
        },
        sign: Sign {
            auth_version: u64::try_from(auth_version).unwrap_or_default(),
            draining: row.try_get("draining")?,
        },
        seen_at: row.try_get("seen_at")?,
        silent_for: Duration::try_from_secs_f64(silent).unwrap_or_default(),
    })
}
