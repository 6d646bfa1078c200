//! Times of last authentication: one statement for as many as there are.

use std::collections::BTreeMap;

use async_trait::async_trait;
use time::OffsetDateTime;

use super::{
    PostgresStore,
    connection::{Points, all, committed, run as execute},
    rows::holdable,
};
use crate::store::{
    StoreResult,
    last_auth::{LastAuth, LastAuthSink, LastAuthStore, newest},
    leases::PortError,
};

#[async_trait]
impl LastAuthSink for PostgresStore {
    async fn note(&self, times: &[LastAuth]) -> Result<(), PortError> {
        const NOTE: &str = "
            INSERT INTO last_auth AS l (kind, id, at)
            SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[])
            ON CONFLICT (kind, id) DO UPDATE SET at = excluded.at WHERE l.at < excluded.at";
        let (mut kinds, mut ids, mut ats) = (Vec::new(), Vec::new(), Vec::new());
        for ((kind, id), at) in newest(times) {
            // Nobody can have such an id; one that was made up must not keep the others out.
            if holdable(kind) && holdable(id) {
                kinds.push(kind);
                ids.push(id);
                ats.push(at);
            }
        }
        self.retrying(|| async {
            let mut client = self.client().await?;
            let transaction = client.transaction().await?;
            execute(&transaction, NOTE, &[&kinds, &ids, &ats]).await?;
            let points = Points("store.last_auth.commit", "store.last_auth.committed");
            committed(transaction, points, ()).await
        })
        .await?;
        Ok(())
    }
}

#[async_trait]
impl LastAuthStore for PostgresStore {
    async fn last_auth(
        &self,
        kind: &str,
        ids: &[String],
    ) -> StoreResult<BTreeMap<String, OffsetDateTime>> {
        const FIND: &str = "SELECT id, at FROM last_auth WHERE kind = $1 AND id = ANY($2)";
        let ids: Vec<&String> = ids.iter().filter(|id| holdable(id)).collect();
        self.retrying(|| async {
            let rows = all(&self.client().await?, FIND, &[&kind, &ids]).await?;
            rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
        })
        .await
    }
}
