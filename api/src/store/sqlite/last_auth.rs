//! Times of last authentication on SQLite.

use std::collections::BTreeMap;

use async_trait::async_trait;
use rusqlite::{OptionalExtension as _, Transaction, params};
use time::OffsetDateTime;

use super::{
    super::{
        StoreResult,
        last_auth::{LastAuth, LastAuthSink, LastAuthStore, newest},
        leases::PortError,
    },
    Store,
    connection::Points,
    encode::At,
};

#[async_trait]
impl LastAuthSink for Store {
    async fn note(&self, times: &[LastAuth]) -> Result<(), PortError> {
        let times = times.to_vec();
        let points = Points("store.last_auth.commit", "store.last_auth.committed");
        let note = move |tx: &Transaction<'_>| {
            let mut statement = tx.prepare_cached(
                "INSERT INTO last_auth (kind, id, at) VALUES (?1, ?2, ?3)
                 ON CONFLICT (kind, id) DO UPDATE SET at = excluded.at
                 WHERE last_auth.at < excluded.at",
            )?;
            for ((kind, id), at) in newest(&times) {
                statement.execute(params![kind, id, At(at)])?;
            }
            Ok(())
        };
        Ok(self.db.write(points, note).await?)
    }
}

#[async_trait]
impl LastAuthStore for Store {
    async fn last_auth(
        &self,
        kind: &str,
        ids: &[String],
    ) -> StoreResult<BTreeMap<String, OffsetDateTime>> {
        let (kind, ids) = (kind.to_owned(), ids.to_vec());
        let find = move |tx: &Transaction<'_>| {
            let mut statement =
                tx.prepare_cached("SELECT at FROM last_auth WHERE kind = ?1 AND id = ?2")?;
            let mut found = BTreeMap::new();
            for id in ids {
                let at: Option<At> =
                    statement.query_row(params![kind, id], |row| row.get(0)).optional()?;
                found.extend(at.map(|at| (id, at.0)));
            }
            Ok(found)
        };
        self.db.read(find).await
    }
}
