//! Creating runs: everything of a request in one commit, under its idempotency key.

use std::collections::BTreeSet;

use rusqlite::{OptionalExtension, Transaction, params};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    super::StoreResult,
    audit,
    changes::announce,
    encode::{At, State, to_json},
};
use crate::{
    audit::model::AuditEntry,
    execution::model::WorkState,
    runs::model::{
        CreateOutcome, IdempotencyKey, NewRoute, NewRun, NewRunHost, RunHostRow, RunRow,
        StoredAnswer,
    },
};

/// Creates all runs, or says why the key does not allow it.
pub(super) fn create(
    tx: &Transaction<'_>,
    runs: &[NewRun],
    key: Option<&IdempotencyKey>,
    entries: &[AuditEntry],
) -> StoreResult<CreateOutcome> {
    // Expiry of keys is judged by the same clock as everything else in the request.
    let now = runs.first().map_or_else(OffsetDateTime::now_utc, |run| run.created_at);
    let used = key.map(|key| look_up(tx, key, now)).transpose()?.flatten();
    if let Some(used) = used {
        return Ok(used);
    }
    if created_before(tx, runs)? {
        return Ok(CreateOutcome::Created);
    }
    if let Some(key) = key {
        reserve(tx, key)?;
    }
    for new in runs {
        let run = new.row();
        insert_run(tx, &run)?;
        let hosts: Vec<RunHostRow> = new.host_rows().collect();
        for (row, host) in hosts.iter().zip(&new.hosts) {
            insert_host(tx, row, host)?;
        }
        insert_route(tx, new, &run, &hosts)?;
    }
    audit::write(tx, entries)?;
    Ok(CreateOutcome::Created)
}

/// All of the runs are there where the commit of an earlier try has come through after all. New
/// runs cost one look-up, of the first.
fn created_before(tx: &Transaction<'_>, runs: &[NewRun]) -> StoreResult<bool> {
    let mut statement = tx.prepare_cached("SELECT 1 FROM runs WHERE id = ?1")?;
    let mut ids = BTreeSet::<Uuid>::new();
    for run in runs {
        // Ids that are given out twice in one request are refused with the rows themselves.
        if !ids.insert(run.id) || !statement.exists([run.id])? {
            return Ok(false);
        }
    }
    Ok(!runs.is_empty())
}

fn look_up(
    tx: &Transaction<'_>,
    key: &IdempotencyKey,
    now: OffsetDateTime,
) -> StoreResult<Option<CreateOutcome>> {
    let mut statement = tx.prepare_cached(
        "SELECT body_hash, status, body FROM idempotency
         WHERE principal = ?1 AND org_id = ?2 AND key = ?3 AND expires_at > ?4",
    )?;
    let found = statement
        .query_row(params![key.principal, key.org_id, key.key, At(now)], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    Ok(found.map(|(body_hash, status, body)| match (status, body) {
        _ if body_hash != key.body_hash => CreateOutcome::OtherBody,
        (Some(status), Some(body)) => CreateOutcome::Replay(StoredAnswer { status, body }),
        _ => CreateOutcome::InFlight,
    }))
}

/// Takes a key that is free or has expired.
fn reserve(tx: &Transaction<'_>, key: &IdempotencyKey) -> StoreResult<()> {
    let answer = key.answer.as_ref();
    tx.prepare_cached(
        "INSERT OR REPLACE INTO idempotency
             (principal, org_id, key, body_hash, status, body, expires_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        key.principal,
        key.org_id,
        key.key,
        key.body_hash,
        answer.map(|answer| answer.status),
        answer.map(|answer| &answer.body),
        At(key.expires_at),
    ])?;
    Ok(())
}

/// Stores the answer of a key that was reserved without one.
pub(super) fn answer(
    tx: &Transaction<'_>,
    key: &IdempotencyKey,
    answer: &StoredAnswer,
) -> StoreResult<()> {
    tx.prepare_cached(
        "UPDATE idempotency SET status = ?5, body = ?6, expires_at = ?7
         WHERE principal = ?1 AND org_id = ?2 AND key = ?3 AND body_hash = ?4 AND status IS NULL",
    )?
    .execute(params![
        key.principal,
        key.org_id,
        key.key,
        key.body_hash,
        answer.status,
        answer.body,
        At(key.expires_at),
    ])?;
    Ok(())
}

fn insert_run(tx: &Transaction<'_>, run: &RunRow) -> StoreResult<()> {
    tx.prepare_cached(
        "INSERT INTO runs (id, org_id, recipient, correlation_id, url, labels, status, timeout,
                           service, playbook_name, playbook_run_url, principal, sat_id, sat_org_id,
                           response_full, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
    )?
    .execute(params![
        run.id,
        run.org_id,
        run.recipient,
        run.correlation_id,
        run.url,
        to_json(&run.labels)?,
        State(run.status),
        run.timeout,
        run.service,
        run.name,
        run.web_console_url,
        run.principal,
        run.sat_id,
        run.sat_org_id,
        run.response_full,
        At(run.created_at),
        At(run.updated_at),
    ])?;
    Ok(())
}

fn insert_host(tx: &Transaction<'_>, row: &RunHostRow, host: &NewRunHost) -> StoreResult<()> {
    tx.prepare_cached(
        "INSERT INTO run_hosts (id, run_id, inventory_id, subscription_manager_id, host, status,
                                created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute(params![
        row.id,
        row.run_id,
        row.inventory_id,
        host.subscription_manager_id,
        row.host,
        State(row.status),
        At(row.created_at),
        At(row.updated_at),
    ])?;
    Ok(())
}

fn insert_route(
    tx: &Transaction<'_>,
    new: &NewRun,
    run: &RunRow,
    hosts: &[RunHostRow],
) -> StoreResult<()> {
    match &new.route {
        NewRoute::Worker { inputs, sealed_secrets } => {
            tx.prepare_cached(
                "INSERT INTO run_work (run_id, recipient, org_id, created_at, expires_at, state,
                                       inputs, sealed_secrets)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            )?
            .execute(params![
                run.id,
                run.recipient,
                run.org_id,
                At(run.created_at),
                At(run.expires_at()),
                WorkState::Pending.code(),
                inputs.as_ref().map(to_json).transpose()?,
                sealed_secrets,
            ])?;
            announce(tx, run, hosts)
        }
        NewRoute::CloudConnector => {
            tx.prepare_cached("INSERT INTO run_dispatch (run_id, created_at) VALUES (?1, ?2)")?
                .execute(params![run.id, At(run.created_at)])?;
            Ok(())
        }
    }
}
