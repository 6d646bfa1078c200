//! Leases, on the server's clock: every process sees the same time, whatever its own clock says.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::{
    PostgresStore,
    connection::{Param, one, run as execute},
    rows::held,
};
use crate::store::leases::{Lease, Leases, PortError};

#[async_trait]
impl Leases for PostgresStore {
    async fn hold(
        &self,
        name: &str,
        holder: Uuid,
        holder_name: &str,
        ttl: Duration,
    ) -> Result<Option<Lease>, PortError> {
        // The clock is read when the row is there, not when the transaction began: it may have
        // waited for another holder's renewal.
        const HOLD: &str = "
            INSERT INTO leases AS l (name, holder, holder_name, epoch, held_until)
            VALUES ($1, $2, $3, 1, clock_timestamp() + $4::float8 * interval '1 second')
            ON CONFLICT (name) DO UPDATE
            SET holder = excluded.holder, holder_name = excluded.holder_name,
                epoch = l.epoch + (l.holder <> excluded.holder)::int,
                held_until = clock_timestamp() + $4::float8 * interval '1 second'
            WHERE l.holder = excluded.holder OR l.held_until <= clock_timestamp()
            RETURNING epoch";
        let (holder_name, seconds) = (held(holder_name), ttl.as_secs_f64());
        let row = self
            .retrying(|| async {
                let params: [Param<'_>; 4] = [&name, &holder, &holder_name, &seconds];
                let row = one(&self.client().await?, HOLD, &params).await?;
                Ok(row.map(|row| row.try_get("epoch")).transpose()?)
            })
            .await?;
        Ok(row.map(|epoch| Lease { epoch }))
    }

    async fn release(&self, name: &str, holder: Uuid) -> Result<(), PortError> {
        // The row stays, so that the epoch goes on from where it is.
        const RELEASE: &str = "
            UPDATE leases SET held_until = '-infinity' WHERE name = $1 AND holder = $2";
        self.retrying(|| async {
            execute(&self.client().await?, RELEASE, &[&name, &holder]).await
        })
        .await?;
        Ok(())
    }
}
