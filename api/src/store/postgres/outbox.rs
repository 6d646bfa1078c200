//! The outbox: one row per change that consumers see, numbered per run, in the transaction that
//! makes the change and under the lock of its run.

use deadpool_postgres::Transaction;
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    connection::{all, one},
    fault::Fault,
    rows::{self, run_columns},
};
use crate::{
    events::model::{EventType, HEARTBEAT, run_host_payload, run_payload},
    runs::model::{RunHostRow, RunRow},
};

/// Changes to be written, in the order in which consumers get them.
#[derive(Debug, Default)]
pub(super) struct Changes {
    run_ids: Vec<Uuid>,
    entities: Vec<&'static str>,
    entity_ids: Vec<Uuid>,
    types: Vec<&'static str>,
    orgs: Vec<String>,
    services: Vec<String>,
    states: Vec<&'static str>,
    payloads: Vec<Value>,
    times: Vec<OffsetDateTime>,
    /// When they happen, where that is not the last change of their rows.
    at: Option<OffsetDateTime>,
}

impl Changes {
    /// What happens at another time than the last change of its rows.
    pub(super) fn at(at: OffsetDateTime) -> Self {
        Self { at: Some(at), ..Self::default() }
    }

    /// A run as it is now.
    pub(super) fn run(&mut self, kind: EventType, run: &RunRow) {
        self.push(
            kind,
            run,
            ("run", run.id),
            run.status.as_str(),
            run_payload(run),
            run.updated_at,
        );
    }

    /// A host of that run as it is now.
    pub(super) fn host(&mut self, kind: EventType, run: &RunRow, host: &RunHostRow) {
        let payload = run_host_payload(host);
        let entity = ("run_host", host.id);
        self.push(kind, run, entity, host.status.as_str(), payload, host.updated_at);
    }

    fn push(
        &mut self,
        kind: EventType,
        run: &RunRow,
        entity: (&'static str, Uuid),
        status: &'static str,
        payload: Value,
        at: OffsetDateTime,
    ) {
        if run.id == HEARTBEAT {
            return;
        }
        self.run_ids.push(run.id);
        self.entities.push(entity.0);
        self.entity_ids.push(entity.1);
        self.types.push(kind.as_str());
        self.orgs.push(run.org_id.clone());
        self.services.push(run.service.clone());
        self.states.push(status);
        self.payloads.push(payload);
        self.times.push(self.at.unwrap_or(at));
    }

    /// Writes them, in one statement. The callers hold the locks of all runs concerned.
    pub(super) async fn write(&self, transaction: &Transaction<'_>) -> Result<(), Fault> {
        if self.run_ids.is_empty() {
            return Ok(());
        }
        let statement = transaction.prepare_cached(WRITE).await?;
        transaction
            .execute(
                &statement,
                &[
                    &self.run_ids,
                    &self.entities,
                    &self.entity_ids,
                    &self.types,
                    &self.orgs,
                    &self.services,
                    &self.states,
                    &self.payloads,
                    &self.times,
                ],
            )
            .await?;
        Ok(())
    }
}

const WRITE: &str = "
    WITH change AS (
        SELECT c.*, row_number() OVER (PARTITION BY run_id ORDER BY n) AS nth,
               count(*) OVER (PARTITION BY run_id) AS of
        FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::text[],
                    $7::text[], $8::json[], $9::timestamptz[]) WITH ORDINALITY
             AS c (run_id, entity, entity_id, event_type, org_id, service, status, payload,
                   created_at, n)
    ), numbered AS (
        INSERT INTO run_sequence AS s (run_id, last)
        SELECT run_id, of FROM change WHERE nth = 1 ORDER BY run_id
        ON CONFLICT (run_id) DO UPDATE SET last = s.last + excluded.last
        RETURNING run_id, last
    )
    INSERT INTO outbox (run_id, run_seq, entity, entity_id, event_type, org_id, service, status,
                        payload, created_at)
    SELECT c.run_id, s.last - c.of + c.nth, c.entity, c.entity_id, c.event_type, c.org_id,
           c.service, c.status, c.payload, c.created_at
    FROM change c JOIN numbered s ON s.run_id = c.run_id
    ORDER BY c.n";

/// Ends the doubt about runs that were sent by a connector: whoever reports on one proves that its
/// message has arrived, so the `create` events that were held back are written before anything else
/// is said about it. Runs that are not in doubt are left alone.
pub(super) async fn settle(transaction: &Transaction<'_>, runs: &[Uuid]) -> Result<bool, Fault> {
    const TAKE: &str = "DELETE FROM run_dispatch WHERE run_id = ANY($1) RETURNING run_id";
    const RUNS: &str = concat!(
        "SELECT ",
        run_columns!(),
        " FROM runs r WHERE r.id = ANY($1) ORDER BY r.created_at, r.id"
    );
    let taken = all(transaction, TAKE, &[&runs]).await?;
    if taken.is_empty() {
        return Ok(false);
    }
    let ids = taken.iter().map(|row| row.try_get(0)).collect::<Result<Vec<Uuid>, _>>()?;
    let hosts = rows::hosts_of(transaction, &ids).await?;
    let mut changes = Changes::default();
    for row in all(transaction, RUNS, &[&ids]).await? {
        let run = rows::run(&row)?;
        changes.run(EventType::Create, &run);
        for host in hosts.iter().filter(|host| host.run_id == run.id) {
            changes.host(EventType::Create, &run, host);
        }
    }
    changes.write(transaction).await?;
    Ok(true)
}

/// Forgets events older than that, at most so many; `published`: only those that a broker has.
pub(super) async fn forget(
    transaction: &Transaction<'_>,
    before: OffsetDateTime,
    published: bool,
    most: i64,
) -> Result<u64, Fault> {
    // How far it went is noted, so that readers of the feed learn what they have missed.
    const FORGET: &str = "
        WITH gone AS (
            DELETE FROM outbox WHERE id IN
                (SELECT id FROM outbox WHERE created_at < $1
                     AND (NOT $3 OR published_at IS NOT NULL)
                 ORDER BY id LIMIT $2)
            RETURNING tx, id
        ), newest AS (
            SELECT tx, id FROM gone ORDER BY tx DESC, id DESC LIMIT 1
        ), noted AS (
            UPDATE outbox_horizon h SET tx = n.tx, id = n.id FROM newest n
            WHERE (h.tx, h.id) < (n.tx, n.id)
        )
        SELECT count(*) FROM gone";
    let row = one(transaction, FORGET, &[&before, &most, &published]).await?;
    let row = row.ok_or_else(|| Fault::broken("a count without a row"))?;
    Ok(row.try_get::<_, i64>(0)?.cast_unsigned())
}
