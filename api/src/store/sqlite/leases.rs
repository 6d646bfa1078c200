//! [`Leases`] on SQLite. One process has the database, so its clock is the clock.

use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{OptionalExtension as _, Transaction, params};
use uuid::Uuid;

use super::{
    super::{
        StoreResult,
        leases::{Lease, Leases, PortError},
    },
    Store,
    connection::Points,
    encode::At,
};

#[async_trait]
impl Leases for Store {
    async fn hold(
        &self,
        name: &str,
        holder: Uuid,
        holder_name: &str,
        ttl: Duration,
    ) -> Result<Option<Lease>, PortError> {
        let (name, holder_name) = (name.to_owned(), holder_name.to_owned());
        let points = Points("store.hold.commit", "store.hold.committed");
        let epoch =
            self.db.write(points, move |tx| hold(tx, &name, holder, &holder_name, ttl)).await?;
        Ok(epoch.map(|epoch| Lease { epoch }))
    }

    async fn release(&self, name: &str, holder: Uuid) -> Result<(), PortError> {
        let name = name.to_owned();
        let points = Points("store.release.commit", "store.release.committed");
        let release = move |tx: &Transaction<'_>| {
            // The row stays, so that the epoch goes on from where it is.
            let sql = "UPDATE leases SET held_until = 0 WHERE name = ?1 AND holder = ?2";
            tx.prepare_cached(sql)?.execute(params![name, holder])?;
            Ok(())
        };
        Ok(self.db.write(points, release).await?)
    }
}

fn hold(
    tx: &Transaction<'_>,
    name: &str,
    holder: Uuid,
    holder_name: &str,
    ttl: Duration,
) -> StoreResult<Option<i64>> {
    let now = At::now();
    let until = At(now.0 + ttl);
    let epoch = tx
        .prepare_cached(
            "INSERT INTO leases (name, holder, holder_name, epoch, held_until)
             VALUES (?1, ?2, ?3, 1, ?4) ON CONFLICT (name) DO UPDATE
             SET holder = excluded.holder, holder_name = excluded.holder_name,
                 epoch = leases.epoch + (leases.holder <> excluded.holder),
                 held_until = excluded.held_until
             WHERE leases.holder = excluded.holder OR leases.held_until <= ?5
             RETURNING epoch",
        )?
        .query_row(params![name, holder, holder_name, until, now], |row| row.get(0))
        .optional()?;
    Ok(epoch)
}
