//! A batch of records: output as one chunk, unseen hosts, what is known of the outcome, the lease.

use std::collections::BTreeSet;

use deadpool_postgres::Transaction;
use serde_json::Value;
use tokio_postgres::{Row, Statement};
use uuid::Uuid;

use super::{
    connection::{Param, prepared, run as execute},
    fault::Fault,
    outbox::Changes,
    rows::{self, held, host_columns},
    work::{self, Held},
};
use crate::{
    events::model::EventType,
    execution::model::{AppendBatch, AppendOutcome, Hold, OutcomeSoFar, WorkState},
    runs::model::RunHostRow,
};

const CHUNK: &str = "INSERT INTO run_output (run_id, start_byte, data) VALUES ($1, $2, $3)";
/// Counts the hosts of the run only where one appears; answers with a row at least, which says how
/// many appeared.
const HOSTS: &str = concat!(
    "WITH unseen AS (
         SELECT n.id, n.host, row_number() OVER (ORDER BY n.place) AS place
         FROM unnest($3::uuid[], $4::text[]) WITH ORDINALITY AS n (id, host, place)
         WHERE NOT EXISTS (SELECT FROM run_hosts k WHERE k.run_id = $1 AND k.host = n.host)
     ), created AS (
         INSERT INTO run_hosts AS h (id, run_id, host, created_at, updated_at)
         SELECT u.id, $1, u.host, $2, $2 FROM unseen u
         WHERE u.place <= $5 - (SELECT count(*) FROM run_hosts k WHERE k.run_id = $1)
         RETURNING ",
    host_columns!(),
    ") SELECT created.*, n.unseen FROM (SELECT count(*) AS unseen FROM unseen) n
       LEFT JOIN created ON true"
);
const PROGRESS: &str = "
    UPDATE run_work SET state = $2, next_counter = $3, output_bytes = $4, lease_until = $5,
                        outcome = coalesce($6, outcome)
    WHERE run_id = $1";

/// [`crate::store::WorkStore::append`].
pub(super) async fn append(
    transaction: &Transaction<'_>,
    hold: Hold,
    batch: &AppendBatch,
) -> Result<AppendOutcome, Fault> {
    let Some(work) = work::hold(transaction, hold).await? else {
        return Ok(AppendOutcome::NotYours);
    };
    if work.state == WorkState::Done {
        return Ok(AppendOutcome::Applied { next_counter: work.next_counter, cancel: true });
    }
    let end = work.next_counter.max(batch.end_counter());
    if batch.first_counter > work.next_counter {
        return Ok(AppendOutcome::Gap { next_counter: work.next_counter });
    }
    let seen = write(transaction, &work, batch, end).await?;
    let mut changes = Changes::default();
    for host in &seen.created {
        changes.host(EventType::Create, &work.run, host);
    }
    changes.write(transaction).await?;
    if seen.refused {
        note_more_hosts(transaction, &work, batch).await?;
    }
    let over = work.run.status.is_final() || work.run.expires_at() <= batch.now;
    Ok(AppendOutcome::Applied { next_counter: end, cancel: work.cancel_requested || over })
}

/// What became of the hosts of a batch that were not known.
#[derive(Default)]
struct Seen {
    created: Vec<RunHostRow>,
    /// Whether there was one too many.
    refused: bool,
}

/// Sends all statements at once.
async fn write(
    transaction: &Transaction<'_>,
    work: &Held,
    batch: &AppendBatch,
    end: u64,
) -> Result<Seen, Fault> {
    let [chunk, hosts, progress] = prepared(transaction, [CHUNK, HOSTS, PROGRESS]).await?;
    let fresh = end > work.next_counter;
    let output = batch.fresh_output(work.next_counter, work.output_bytes);
    let start = work.output_bytes.cast_signed();
    // All answers are awaited: those after a failure only say that there was one.
    let (stored, seen, noted) = tokio::join!(
        biased;
        async {
            if fresh && !output.is_empty() {
                transaction.execute(&chunk, &[&work.run.id, &start, &output.as_ref()]).await?;
            }
            Ok::<_, Fault>(())
        },
        async {
            let wanted = fresh && !work.outcome.more_hosts;
            if wanted { insert_hosts(transaction, &hosts, work, batch).await } else { Ok(Seen::default()) }
        },
        async {
            let stored = if fresh { output.len() as u64 } else { 0 };
            let state = if end > 0 { WorkState::Started } else { work.state };
            let bytes = work.output_bytes.saturating_add(stored).cast_signed();
            let outcome = if fresh { changed_outcome(work, batch)? } else { None };
            let (next, until) = (end.cast_signed(), batch.lease_until);
            let id = work.run.id;
            transaction
                .execute(&progress, &[&id, &state.code(), &next, &bytes, &until, &outcome])
                .await?;
            Ok::<_, Fault>(())
        },
    );
    stored?;
    let seen = seen?;
    noted?;
    Ok(seen)
}

/// What is known of the outcome now, where the batch says anything; `None` leaves it as it is.
fn changed_outcome(work: &Held, batch: &AppendBatch) -> Result<Option<Value>, Fault> {
    let silent = batch.outcome == OutcomeSoFar::default();
    if silent { Ok(None) } else { document(&merged(work, batch)).map(Some) }
}

fn merged(work: &Held, batch: &AppendBatch) -> OutcomeSoFar {
    let mut merged = work.outcome.clone();
    merged.merge(&batch.outcome, batch.hosts_max);
    merged
}

fn document(outcome: &OutcomeSoFar) -> Result<Value, Fault> {
    let broken = |error| Fault::broken(format!("an outcome that cannot be stored: {error}"));
    serde_json::to_value(outcome).map_err(broken)
}

/// Hosts that appear are running, also where the run's time is over meanwhile: its finish or the
/// cleaner ends them.
async fn insert_hosts(
    transaction: &Transaction<'_>,
    statement: &Statement,
    work: &Held,
    batch: &AppendBatch,
) -> Result<Seen, Fault> {
    // Two names may become one.
    let names: BTreeSet<String> = batch.hosts.iter().map(|name| held(name)).collect();
    if names.is_empty() {
        return Ok(Seen::default());
    }
    let names: Vec<String> = names.into_iter().collect();
    let ids: Vec<Uuid> = names.iter().map(|_| Uuid::new_v4()).collect();
    let most = i64::try_from(batch.hosts_max).unwrap_or(i64::MAX);
    let params: [Param<'_>; 5] = [&work.run.id, &batch.now, &ids, &names, &most];
    let rows = transaction.query(statement, &params).await?;
    let unseen: i64 = rows.first().map_or(Ok(0), |row| row.try_get("unseen"))?;
    let is_host = |row: &&Row| !matches!(row.try_get::<_, Option<Uuid>>("id"), Ok(None));
    let created: Vec<_> = rows.iter().filter(is_host).map(rows::host).collect::<Result<_, _>>()?;
    Ok(Seen { refused: (created.len() as u64) < unseen.cast_unsigned(), created })
}

/// Says once, behind the output of the batch, that the run has more hosts than are kept.
async fn note_more_hosts(
    transaction: &Transaction<'_>,
    work: &Held,
    batch: &AppendBatch,
) -> Result<(), Fault> {
    const NOTED: &str = "UPDATE run_work SET output_bytes = $2, outcome = $3 WHERE run_id = $1";
    let output = batch.fresh_output(work.next_counter, work.output_bytes);
    let start = work.output_bytes.saturating_add(output.len() as u64);
    let note = batch.hosts_note(&output, start);
    let end = start.saturating_add(note.len() as u64).cast_signed();
    execute(transaction, CHUNK, &[&work.run.id, &start.cast_signed(), &note]).await?;
    let outcome = document(&OutcomeSoFar { more_hosts: true, ..merged(work, batch) })?;
    execute(transaction, NOTED, &[&work.run.id, &end, &outcome]).await?;
    Ok(())
}
