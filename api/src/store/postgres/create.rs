//! New runs: rows, hosts, work or dispatch, events and the idempotency key, in one commit.

use deadpool_postgres::{Object, Transaction};
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    PostgresStore, audit,
    connection::{Param, Points, committed, one, prepared},
    fault::Fault,
    outbox::Changes,
};
use crate::{
    audit::model::AuditEntry,
    events::model::EventType,
    runs::model::{CreateOutcome, IdempotencyKey, NewRoute, NewRun, StoredAnswer},
    store::StoreResult,
};

const INSERT_RUNS: &str = "
    INSERT INTO runs (id, recipient, correlation_id, url, labels, created_at, updated_at, timeout,
                      service, org_id, response_full, playbook_name, playbook_run_url, principal,
                      sat_org_id, sat_id)
    SELECT n.id, n.recipient, n.correlation_id, n.url, n.labels, n.created_at, n.created_at,
           n.timeout, n.service, n.org_id, n.response_full, n.playbook_name, n.playbook_run_url,
           n.principal, n.sat_org_id, n.sat_id
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::jsonb[], $6::timestamptz[],
                $7::integer[], $8::text[], $9::text[], $10::boolean[], $11::text[], $12::text[],
                $13::text[], $14::text[], $15::uuid[])
         AS n (id, recipient, correlation_id, url, labels, created_at, timeout, service, org_id,
               response_full, playbook_name, playbook_run_url, principal, sat_org_id, sat_id)";
const INSERT_HOSTS: &str = "
    INSERT INTO run_hosts (id, run_id, inventory_id, host, subscription_manager_id, created_at,
                           updated_at)
    SELECT n.id, n.run_id, n.inventory_id, n.host, n.subscription, n.created_at, n.created_at
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::uuid[], $6::timestamptz[])
         AS n (id, run_id, inventory_id, host, subscription, created_at)";
const INSERT_WORK: &str = "
    INSERT INTO run_work (run_id, recipient, org_id, created_at, expires_at, state, inputs,
                          sealed_secrets)
    SELECT n.run_id, n.recipient, n.org_id, n.created_at, n.expires_at, 0, n.inputs, n.secrets
    FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::timestamptz[], $5::timestamptz[],
                $6::json[], $7::bytea[])
         AS n (run_id, recipient, org_id, created_at, expires_at, inputs, secrets)";
const INSERT_DISPATCH: &str = "
    INSERT INTO run_dispatch (run_id, created_at)
    SELECT * FROM unnest($1::uuid[], $2::timestamptz[])";

/// The runs, column by column.
#[derive(Default)]
struct Runs<'a> {
    ids: Vec<Uuid>,
    recipients: Vec<Uuid>,
    correlation_ids: Vec<Uuid>,
    urls: Vec<&'a str>,
    labels: Vec<Value>,
    times: Vec<OffsetDateTime>,
    timeouts: Vec<i32>,
    services: Vec<&'a str>,
    orgs: Vec<&'a str>,
    full: Vec<bool>,
    names: Vec<Option<&'a str>>,
    consoles: Vec<&'a str>,
    principals: Vec<Option<&'a str>>,
    sat_orgs: Vec<Option<&'a str>>,
    sats: Vec<Option<Uuid>>,
}

impl<'a> Runs<'a> {
    fn push(&mut self, run: &'a NewRun, labels: Value) {
        self.ids.push(run.id);
        self.recipients.push(run.recipient);
        self.correlation_ids.push(run.correlation_id);
        self.urls.push(&run.url);
        self.labels.push(labels);
        self.times.push(run.created_at);
        self.timeouts.push(run.timeout);
        self.services.push(&run.service);
        self.orgs.push(&run.org_id);
        self.full.push(run.response_full);
        self.names.push(run.name.as_deref());
        self.consoles.push(&run.web_console_url);
        self.principals.push(run.principal.as_deref());
        self.sat_orgs.push(run.sat_org_id.as_deref());
        self.sats.push(run.sat_id);
    }
}

/// Their hosts, column by column.
#[derive(Default)]
struct Hosts<'a> {
    ids: Vec<Uuid>,
    runs: Vec<Uuid>,
    inventory_ids: Vec<Option<Uuid>>,
    names: Vec<&'a str>,
    subscriptions: Vec<Option<Uuid>>,
    times: Vec<OffsetDateTime>,
}

/// The work on those that go to our workers, column by column.
#[derive(Default)]
struct Work<'a> {
    runs: Vec<Uuid>,
    recipients: Vec<Uuid>,
    orgs: Vec<&'a str>,
    times: Vec<OffsetDateTime>,
    expiries: Vec<OffsetDateTime>,
    inputs: Vec<Option<&'a Value>>,
    secrets: Vec<Option<&'a [u8]>>,
}

/// Everything that is inserted.
#[derive(Default)]
struct Batch<'a> {
    runs: Runs<'a>,
    hosts: Hosts<'a>,
    work: Work<'a>,
    dispatched: Vec<Uuid>,
    dispatched_at: Vec<OffsetDateTime>,
    changes: Changes,
}

impl<'a> Batch<'a> {
    fn of(runs: &'a [NewRun]) -> Self {
        let mut batch = Self::default();
        runs.iter().for_each(|run| batch.push(run));
        batch
    }

    fn push(&mut self, run: &'a NewRun) {
        let row = run.row();
        for host in &run.hosts {
            self.hosts.ids.push(host.id);
            self.hosts.runs.push(run.id);
            self.hosts.inventory_ids.push(host.inventory_id);
            self.hosts.names.push(&host.host);
            self.hosts.subscriptions.push(host.subscription_manager_id);
            self.hosts.times.push(run.created_at);
        }
        match &run.route {
            NewRoute::Worker { inputs, sealed_secrets } => {
                self.work.runs.push(run.id);
                self.work.recipients.push(run.recipient);
                self.work.orgs.push(&run.org_id);
                self.work.times.push(run.created_at);
                self.work.expiries.push(row.expires_at());
                self.work.inputs.push(inputs.as_ref());
                self.work.secrets.push(sealed_secrets.as_deref());
                self.changes.run(EventType::Create, &row);
                run.host_rows().for_each(|h| self.changes.host(EventType::Create, &row, &h));
            }
            NewRoute::CloudConnector => {
                self.dispatched.push(run.id);
                self.dispatched_at.push(run.created_at);
            }
        }
        self.runs.push(run, row.labels);
    }

    /// Sends all statements at once: the server works through them in this order. All answers are
    /// awaited and the first failure counts, since those after it only say that there was one.
    async fn insert(
        &self,
        transaction: &Transaction<'_>,
        audit: &[AuditEntry],
    ) -> Result<(), Fault> {
        let texts = [INSERT_RUNS, INSERT_HOSTS, INSERT_WORK, INSERT_DISPATCH];
        let [runs, hosts, work, dispatch] = prepared(transaction, texts).await?;
        let (runs, hosts, work, dispatched, changes, audited) = tokio::join!(
            biased;
            async {
                let r = &self.runs;
                transaction
                    .execute(
                        &runs,
                        &[
                            &r.ids, &r.recipients, &r.correlation_ids, &r.urls, &r.labels,
                            &r.times, &r.timeouts, &r.services, &r.orgs, &r.full, &r.names,
                            &r.consoles, &r.principals, &r.sat_orgs, &r.sats,
                        ],
                    )
                    .await
                    .map_err(Fault::from)
            },
            async {
                let h = &self.hosts;
                let (ids, names) = (&h.ids, &h.names);
                let params: [Param<'_>; 6] =
                    [ids, &h.runs, &h.inventory_ids, names, &h.subscriptions, &h.times];
                if ids.is_empty() {
                    return Ok::<_, Fault>(0);
                }
                Ok(transaction.execute(&hosts, &params).await?)
            },
            async {
                let w = &self.work;
                let params: [Param<'_>; 7] = [
                    &w.runs, &w.recipients, &w.orgs, &w.times, &w.expiries, &w.inputs, &w.secrets,
                ];
                if w.runs.is_empty() {
                    return Ok::<_, Fault>(0);
                }
                Ok(transaction.execute(&work, &params).await?)
            },
            async {
                if self.dispatched.is_empty() {
                    return Ok::<_, Fault>(0);
                }
                Ok(transaction.execute(&dispatch, &[&self.dispatched, &self.dispatched_at]).await?)
            },
            self.changes.write(transaction),
            audit::write(transaction, audit),
        );
        runs.and(hosts).and(work).and(dispatched)?;
        changes.and(audited)
    }
}

/// [`crate::store::RunStore::create`].
pub(super) async fn create(
    store: &PostgresStore,
    runs: &[NewRun],
    key: Option<&IdempotencyKey>,
    audit: &[AuditEntry],
) -> StoreResult<CreateOutcome> {
    let batch = Batch::of(runs);
    // Expiry of keys is judged by the same clock as everything else in the request.
    let now = runs.first().map_or_else(OffsetDateTime::now_utc, |run| run.created_at);
    store
        .retrying(|| async {
            let mut client = store.client().await?;
            let transaction = client.transaction().await?;
            if let Some(key) = key
                && let Some(used) = reserve(&transaction, key, now).await?
            {
                return Ok(used);
            }
            match batch.insert(&transaction, audit).await {
                Err(fault) if fault.violates("runs_pkey") => {
                    drop(transaction);
                    return created_before(&client, &batch, fault).await;
                }
                inserted => inserted?,
            }
            committed(
                transaction,
                Points("store.create.commit", "store.create.committed"),
                CreateOutcome::Created,
            )
            .await
        })
        .await
}

/// All of the runs are there where the commit of an earlier try has come through after all.
/// Otherwise ids were given out twice.
async fn created_before(
    client: &Object,
    batch: &Batch<'_>,
    fault: Fault,
) -> Result<CreateOutcome, Fault> {
    const COUNT: &str = "SELECT count(*) FROM runs WHERE id = ANY($1)";
    let row = one(client, COUNT, &[&batch.runs.ids]).await?;
    let known: i64 = row.map_or(Ok(0), |row| row.try_get(0))?;
    let all = usize::try_from(known).is_ok_and(|known| known == batch.runs.ids.len());
    if all { Ok(CreateOutcome::Created) } else { Err(fault) }
}

/// Takes the key, or says what became of its first use. A request with the same key that is being
/// committed right now is waited for.
async fn reserve(
    transaction: &Transaction<'_>,
    key: &IdempotencyKey,
    now: OffsetDateTime,
) -> Result<Option<CreateOutcome>, Fault> {
    const TAKE: &str = "
        INSERT INTO idempotency AS i (principal, org_id, key, body_hash, status, body, expires_at)
        VALUES ($1, $2, $3, $4, $5, $6, $7)
        ON CONFLICT (principal, org_id, key) DO UPDATE
        SET body_hash = excluded.body_hash, status = excluded.status, body = excluded.body,
            expires_at = excluded.expires_at
        WHERE i.expires_at <= $8
        RETURNING 1";
    const USED: &str = "
        SELECT body_hash, status, body FROM idempotency
        WHERE principal = $1 AND org_id = $2 AND key = $3";
    let hash = key.body_hash.as_slice();
    let status = key.answer.as_ref().map(|answer| i32::from(answer.status));
    let body = key.answer.as_ref().map(|answer| answer.body.as_slice());
    let (principal, org_id, name) = (&key.principal, &key.org_id, &key.key);
    let params: [Param<'_>; 8] =
        [principal, org_id, name, &hash, &status, &body, &key.expires_at, &now];
    if one(transaction, TAKE, &params).await?.is_some() {
        return Ok(None);
    }
    let Some(row) = one(transaction, USED, &[principal, org_id, name]).await? else {
        return Err(Fault::late("an idempotency key was forgotten while it was looked up"));
    };
    if row.try_get::<_, &[u8]>("body_hash")? != hash {
        return Ok(Some(CreateOutcome::OtherBody));
    }
    let status: Option<i32> = row.try_get("status")?;
    let body: Option<Vec<u8>> = row.try_get("body")?;
    let status = status.and_then(|status| u16::try_from(status).ok());
    Ok(Some(match status.zip(body) {
        Some((status, body)) => CreateOutcome::Replay(StoredAnswer { status, body }),
        None => CreateOutcome::InFlight,
    }))
}
