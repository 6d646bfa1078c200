//! A batch of records: output as one chunk, unseen hosts, what is known of the outcome, the lease.

use deadpool_postgres::Transaction;
use serde_json::Value;
use time::OffsetDateTime;
use tokio_postgres::Statement;
use uuid::Uuid;

use super::{
    connection::{Param, prepared},
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
const HOSTS: &str = concat!(
    "INSERT INTO run_hosts AS h (id, run_id, host, created_at, updated_at)
     SELECT n.id, $1, n.host, $2, $2 FROM unnest($3::uuid[], $4::text[]) AS n (id, host)
     ON CONFLICT (run_id, host) DO NOTHING RETURNING ",
    host_columns!()
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
    let new_hosts = write(transaction, &work, batch, end).await?;
    let mut changes = Changes::default();
    for host in &new_hosts {
        changes.host(EventType::Create, &work.run, host);
    }
    changes.write(transaction).await?;
    let over = work.run.status.is_final() || work.run.expires_at() <= batch.now;
    Ok(AppendOutcome::Applied { next_counter: end, cancel: work.cancel_requested || over })
}

/// Sends all statements at once. Answers with the hosts that were not known.
async fn write(
    transaction: &Transaction<'_>,
    work: &Held,
    batch: &AppendBatch,
    end: u64,
) -> Result<Vec<RunHostRow>, Fault> {
    let [chunk, hosts, progress] = prepared(transaction, [CHUNK, HOSTS, PROGRESS]).await?;
    let fresh = end > work.next_counter;
    let output = batch.fresh_output(work.next_counter, work.output_bytes);
    let start = work.output_bytes.cast_signed();
    let ((), new_hosts, ()) = tokio::try_join!(
        biased;
        async {
            if fresh && !output.is_empty() {
                transaction.execute(&chunk, &[&work.run.id, &start, &output.as_ref()]).await?;
            }
            Ok::<_, Fault>(())
        },
        async {
            let names = if fresh { batch.hosts.as_slice() } else { &[] };
            insert_hosts(transaction, &hosts, work, names, batch.now).await
        },
        async {
            let stored = if fresh { output.len() as u64 } else { 0 };
            let state = if end > 0 { WorkState::Started } else { work.state };
            let bytes = work.output_bytes.saturating_add(stored).cast_signed();
            let outcome = if fresh { merged(&work.outcome, &batch.outcome)? } else { None };
            let (next, until) = (end.cast_signed(), batch.lease_until);
            let id = work.run.id;
            transaction
                .execute(&progress, &[&id, &state.code(), &next, &bytes, &until, &outcome])
                .await?;
            Ok(())
        },
    )?;
    Ok(new_hosts)
}

/// What is known now, where the batch says anything; `None` leaves it as it is.
fn merged(known: &OutcomeSoFar, later: &OutcomeSoFar) -> Result<Option<Value>, Fault> {
    if *later == OutcomeSoFar::default() {
        return Ok(None);
    }
    let mut merged = known.clone();
    merged.merge(later);
    let broken = |error| Fault::broken(format!("an outcome that cannot be stored: {error}"));
    serde_json::to_value(merged).map(Some).map_err(broken)
}

/// Hosts that appear are running, also where the run's time is over meanwhile: its finish or the
/// cleaner ends them.
async fn insert_hosts(
    transaction: &Transaction<'_>,
    statement: &Statement,
    work: &Held,
    names: &[String],
    now: OffsetDateTime,
) -> Result<Vec<RunHostRow>, Fault> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<String> = names.iter().map(|name| held(name)).collect();
    let ids: Vec<Uuid> = names.iter().map(|_| Uuid::new_v4()).collect();
    let params: [Param<'_>; 4] = [&work.run.id, &now, &ids, &names];
    let rows = transaction.query(statement, &params).await?;
    rows.iter().map(rows::host).collect()
}
