//! Cancellation, and the end of runs that nobody carries out any more.

use std::collections::BTreeMap;

use deadpool_postgres::Transaction;
use dispatcher_wire::RunStatus;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    PostgresStore, audit,
    connection::{Points, all, both, committed, run as execute},
    fault::Fault,
    outbox::Changes,
    rows::{self, held, run_columns},
};
use crate::{
    audit::model::{Action, Actor},
    events::model::EventType,
    execution::model::WorkState,
    runs::model::{CancelOutcome, CancelRequest, RunRow},
    store::StoreResult,
};

/// [`crate::store::RunStore::cancel`].
pub(super) async fn cancel(
    store: &PostgresStore,
    requests: &[CancelRequest],
    now: OffsetDateTime,
    by: Option<&Actor>,
) -> StoreResult<Vec<CancelOutcome>> {
    store
        .retrying(|| async {
            let mut client = store.client().await?;
            let transaction = client.transaction().await?;
            let ids: Vec<Uuid> = requests.iter().map(|request| request.run_id).collect();
            let mut batch = Batch::locked(&transaction, &ids).await?;
            let outcomes = requests.iter().map(|request| batch.decide(request, now)).collect();
            let canceled = batch.write(&transaction, now).await?;
            if let Some(by) = by {
                let runs = canceled.iter().map(|(org_id, run)| (org_id.as_str(), *run));
                let entries = by.did_to_runs(Action::RunCancel, runs, now);
                audit::write(&transaction, &entries).await?;
            }
            committed(
                transaction,
                Points("store.cancel.commit", "store.cancel.committed"),
                outcomes,
            )
            .await
        })
        .await
}

/// Runs under their locks, and what is to become of them.
#[derive(Default)]
struct Batch {
    runs: BTreeMap<Uuid, (RunRow, Option<WorkState>)>,
    ended: Vec<RunRow>,
    marked: Vec<Uuid>,
    marked_by: Vec<String>,
}

impl Batch {
    async fn locked(transaction: &Transaction<'_>, ids: &[Uuid]) -> Result<Self, Fault> {
        const RUNS: &str = concat!(
            "SELECT ",
            run_columns!(),
            " FROM runs r WHERE r.id = ANY($1) ORDER BY r.id FOR NO KEY UPDATE"
        );
        const WORK: &str = "SELECT run_id, state FROM run_work WHERE run_id = ANY($1)";
        let (runs, work) = both(transaction, (RUNS, &[&ids]), (WORK, &[&ids])).await?;
        let mut batch = Self::default();
        for row in &runs {
            let run = rows::run(row)?;
            batch.runs.insert(run.id, (run, None));
        }
        for row in work {
            if let Some((_, state)) = batch.runs.get_mut(&row.try_get(0)?) {
                *state = Some(WorkState::from_code(row.try_get(1)?));
            }
        }
        Ok(batch)
    }

    fn decide(&mut self, request: &CancelRequest, now: OffsetDateTime) -> CancelOutcome {
        let Some((run, work)) = self.runs.get_mut(&request.run_id) else {
            return CancelOutcome::NotFound;
        };
        if run.org_id != request.org_id {
            return CancelOutcome::OtherOrg;
        }
        let Some(state) = *work else {
            return CancelOutcome::Elsewhere(Box::new(run.clone()));
        };
        if run.status_at(now).is_final() || state == WorkState::Done {
            return CancelOutcome::NotRunning;
        }
        self.marked.push(run.id);
        self.marked_by.push(held(&request.principal));
        if state == WorkState::Pending {
            run.status = RunStatus::Canceled;
            self.ended.push(run.clone());
            return CancelOutcome::Canceled;
        }
        CancelOutcome::Requested { recipient: run.recipient }
    }

    /// Writes what was decided; answers with the runs that nobody had canceled before, and whose
    /// they are.
    async fn write(
        self,
        transaction: &Transaction<'_>,
        now: OffsetDateTime,
    ) -> Result<Vec<(String, Uuid)>, Fault> {
        const MARK: &str = "
            UPDATE run_work w SET cancel_requested = true, canceled_by = n.principal
            FROM unnest($1::uuid[], $2::text[]) AS n (run_id, principal)
            WHERE w.run_id = n.run_id AND NOT w.cancel_requested
            RETURNING w.run_id, w.org_id";
        let mut canceled = Vec::new();
        if !self.marked.is_empty() {
            for row in all(transaction, MARK, &[&self.marked, &self.marked_by]).await? {
                canceled.push((row.try_get("org_id")?, row.try_get("run_id")?));
            }
        }
        let ids: Vec<Uuid> = self.ended.iter().map(|run| run.id).collect();
        close_work(transaction, &ids).await?;
        end(transaction, self.ended, RunStatus::Canceled, now).await?;
        Ok(canceled)
    }
}

/// Why a run did not come to its own end.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) run_id: Uuid,
    pub(super) code: String,
    pub(super) details: String,
}

/// Notes why runs ended; what was noted before is replaced.
pub(super) async fn note(transaction: &Transaction<'_>, problems: &[Problem]) -> Result<(), Fault> {
    const NOTE: &str = "
        INSERT INTO run_error (run_id, code, details)
        SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[])
        ON CONFLICT (run_id) DO UPDATE SET code = excluded.code, details = excluded.details";
    if problems.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = problems.iter().map(|problem| problem.run_id).collect();
    let codes: Vec<String> = problems.iter().map(|problem| held(&problem.code)).collect();
    let details: Vec<String> = problems.iter().map(|problem| held(&problem.details)).collect();
    execute(transaction, NOTE, &[&ids, &codes, &details]).await?;
    Ok(())
}

/// Ends the work on runs: it is handed to nobody, and its inputs and secrets are gone.
pub(super) async fn close_work(transaction: &Transaction<'_>, runs: &[Uuid]) -> Result<(), Fault> {
    const CLOSE: &str = "
        UPDATE run_work SET state = 3, inputs = NULL, sealed_secrets = NULL
        WHERE run_id = ANY($1)";
    if !runs.is_empty() {
        execute(transaction, CLOSE, &[&runs]).await?;
    }
    Ok(())
}

/// Gives locked runs, and those of their hosts that are running, one final state, with events.
/// Answers with the number of hosts.
pub(super) async fn end(
    transaction: &Transaction<'_>,
    mut runs: Vec<RunRow>,
    status: RunStatus,
    now: OffsetDateTime,
) -> Result<u64, Fault> {
    if runs.is_empty() {
        return Ok(0);
    }
    for run in &mut runs {
        run.status = status;
        run.updated_at = now;
    }
    rows::write_run_states(transaction, &runs).await?;
    let mut changes = Changes::default();
    runs.iter().for_each(|run| changes.run(EventType::Update, run));
    end_hosts(transaction, &runs, status, now, changes).await
}

/// Gives the running hosts of locked runs a final state, and writes all events.
pub(super) async fn end_hosts(
    transaction: &Transaction<'_>,
    runs: &[RunRow],
    status: RunStatus,
    now: OffsetDateTime,
    mut changes: Changes,
) -> Result<u64, Fault> {
    let ids: Vec<Uuid> = runs.iter().map(|run| run.id).collect();
    let mut hosts = rows::hosts_of(transaction, &ids).await?;
    hosts.retain(|host| host.status == RunStatus::Running);
    let by_id: BTreeMap<Uuid, &RunRow> = runs.iter().map(|run| (run.id, run)).collect();
    for host in &mut hosts {
        host.status = status;
        host.updated_at = now;
        if let Some(run) = by_id.get(&host.run_id) {
            changes.host(EventType::Update, run, host);
        }
    }
    rows::write_host_states(transaction, &hosts).await?;
    changes.write(transaction).await?;
    Ok(hosts.len() as u64)
}
