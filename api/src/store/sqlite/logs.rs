//! Output of runs: any piece of it, and the capped text that becomes the log of every host.

use dispatcher_wire::RunStatus;
use rusqlite::{OptionalExtension, Transaction, params};
use uuid::Uuid;

use super::{super::StoreResult, encode::State};
use crate::{execution::excerpt::Excerpt, runs::model::LogSlice};

/// A piece of a run's output; `None` where the organisation has no such run (or host).
pub(super) fn slice(
    tx: &Transaction<'_>,
    org_id: &str,
    run_id: Uuid,
    host: Option<&str>,
    from: u64,
    cap: usize,
) -> StoreResult<Option<LogSlice>> {
    let Some((status, output_bytes)) = find(tx, org_id, run_id)? else {
        return Ok(None);
    };
    let found_host = find_host(tx, run_id, host)?;
    if host.is_some() && found_host.is_none() {
        return Ok(None);
    }
    let (bytes, total) = match (output_bytes, found_host) {
        (Some(total), _) => (output(tx, run_id, from, cap)?, total),
        (None, Some(host_id)) => stored(tx, host_id, from, cap)?,
        (None, None) => (Vec::new(), 0),
    };
    let complete = status.is_final() && from.saturating_add(bytes.len() as u64) >= total;
    Ok(Some(LogSlice { bytes, complete }))
}

/// The run's state and, for a run of our workers, the length of its output.
fn find(
    tx: &Transaction<'_>,
    org_id: &str,
    run_id: Uuid,
) -> StoreResult<Option<(RunStatus, Option<u64>)>> {
    let mut statement = tx.prepare_cached(
        "SELECT r.status, w.output_bytes FROM runs AS r
         LEFT JOIN run_work AS w ON w.run_id = r.id WHERE r.id = ?1 AND r.org_id = ?2",
    )?;
    let found = statement
        .query_row(params![run_id, org_id], |row| Ok((row.get::<_, State>(0)?.0, row.get(1)?)));
    Ok(found.optional()?)
}

/// That host of a run, or its first by name.
fn find_host(tx: &Transaction<'_>, run_id: Uuid, host: Option<&str>) -> StoreResult<Option<Uuid>> {
    let mut statement = tx.prepare_cached(
        "SELECT id FROM run_hosts WHERE run_id = ?1 AND (?2 IS NULL OR host = ?2)
         ORDER BY host LIMIT 1",
    )?;
    Ok(statement.query_row(params![run_id, host], |row| row.get(0)).optional()?)
}

/// A piece of a host's stored log, with the log's length.
fn stored(
    tx: &Transaction<'_>,
    host_id: Uuid,
    from: u64,
    cap: usize,
) -> StoreResult<(Vec<u8>, u64)> {
    let mut statement = tx.prepare_cached(
        // The piece of an empty blob would be NULL.
        "SELECT coalesce(substr(CAST(log AS BLOB), ?2, ?3), x''), octet_length(log)
         FROM run_hosts WHERE id = ?1",
    )?;
    // SQLite counts from 1, and in 64 bits with a sign.
    let start = i64::try_from(from).unwrap_or(i64::MAX).saturating_add(1);
    let length = i64::try_from(cap).unwrap_or(i64::MAX);
    let piece = statement
        .query_row(params![host_id, start, length], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(piece)
}

/// At most `cap` bytes of what a worker's run printed, from byte `from` on.
fn output(tx: &Transaction<'_>, run_id: Uuid, from: u64, cap: usize) -> StoreResult<Vec<u8>> {
    let mut bytes = Vec::new();
    let Ok(start) = i64::try_from(from) else { return Ok(bytes) };
    let mut statement = tx.prepare_cached(
        "SELECT start_byte, data FROM run_output WHERE run_id = ?1 AND start_byte >= coalesce(
             (SELECT max(start_byte) FROM run_output WHERE run_id = ?1 AND start_byte <= ?2), 0)
         ORDER BY start_byte",
    )?;
    let mut rows = statement.query(params![run_id, start])?;
    while bytes.len() < cap {
        let Some(row) = rows.next()? else { break };
        let skipped = from.saturating_sub(row.get::<_, u64>(0)?);
        let data = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
        let fresh = data.get(usize::try_from(skipped).unwrap_or(usize::MAX)..).unwrap_or_default();
        bytes.extend(fresh.iter().take(cap - bytes.len()));
    }
    Ok(bytes)
}

/// The text of a worker's run as its hosts' logs have it. Reads at most the two ends.
pub(super) fn capped(
    tx: &Transaction<'_>,
    run_id: Uuid,
    total: u64,
    cap: usize,
) -> StoreResult<String> {
    let excerpt = Excerpt::of(total, cap);
    // Neither end is longer than the cap, which is an usize.
    let read =
        |from: u64, to: u64| output(tx, run_id, from, usize::try_from(to - from).unwrap_or(cap));
    let (head, tail) = (read(0, excerpt.head)?, read(excerpt.tail, excerpt.total)?);
    Ok(excerpt.text(&head, &tail))
}
