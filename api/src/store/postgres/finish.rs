//! The end of a run of our workers: states from the merged outcome, logs written once, inputs and
//! secrets gone.

use deadpool_postgres::Transaction;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    cancel::{Problem, close_work, note},
    connection::run as execute,
    fault::Fault,
    outbox::Changes,
    output::Wanted,
    rows,
    work::{self, Held},
};
use crate::{
    events::model::EventType,
    execution::{
        excerpt::Excerpt,
        model::{Finish, FinishOutcome, Hold, WorkState},
        outcome::FinalStates,
    },
    runs::model::RunHostRow,
};

/// [`crate::store::WorkStore::finish`].
pub(super) async fn finish(
    transaction: &Transaction<'_>,
    hold: Hold,
    finish: &Finish,
) -> Result<FinishOutcome, Fault> {
    let Some(mut work) = work::hold(transaction, hold).await? else {
        return Ok(FinishOutcome::NotYours);
    };
    if work.state == WorkState::Done {
        return Ok(FinishOutcome::Final(work.run.status));
    }
    if finish.next_counter > work.next_counter {
        return Ok(FinishOutcome::Gap { next_counter: work.next_counter });
    }
    let states = work.outcome.final_states();
    let mut changes = Changes::default();
    if work.run.status.may_become(states.run) {
        work.run.status = states.run;
        work.run.updated_at = finish.now;
        rows::write_run_states(transaction, std::slice::from_ref(&work.run)).await?;
        changes.run(EventType::Update, &work.run);
    }
    for host in end_hosts(transaction, &work, &states, finish).await? {
        changes.host(EventType::Update, &work.run, &host);
    }
    changes.write(transaction).await?;
    close(transaction, &work).await?;
    Ok(FinishOutcome::Final(work.run.status))
}

async fn close(transaction: &Transaction<'_>, work: &Held) -> Result<(), Fault> {
    let problem = work.outcome.error.as_ref().map(|(code, details)| Problem {
        run_id: work.run.id,
        code: code.clone(),
        details: details.clone(),
    });
    note(transaction, problem.as_slice()).await?;
    close_work(transaction, &[work.run.id]).await
}

/// Every host gets its state (where its own allows it) and the run's output, capped.
async fn end_hosts(
    transaction: &Transaction<'_>,
    work: &Held,
    states: &FinalStates,
    finish: &Finish,
) -> Result<Vec<RunHostRow>, Fault> {
    const WRITE: &str = "
        UPDATE run_hosts h SET status = n.status::runs_status, log = $3, updated_at = $4
        FROM unnest($1::uuid[], $2::text[]) AS n (id, status) WHERE h.id = n.id";
    let mut hosts = rows::hosts_of(transaction, &[work.run.id]).await?;
    if hosts.is_empty() {
        return Ok(hosts);
    }
    for host in &mut hosts {
        let status = states.hosts.get(&host.host).copied().unwrap_or(states.other_hosts);
        if host.status.may_become(status) {
            host.status = status;
        }
        host.updated_at = finish.now;
    }
    let log = log(transaction, work, finish.log_cap(hosts.len())).await?;
    let ids: Vec<Uuid> = hosts.iter().map(|host| host.id).collect();
    let states: Vec<&str> = hosts.iter().map(|host| host.status.as_str()).collect();
    let now: OffsetDateTime = finish.now;
    execute(transaction, WRITE, &[&ids, &states, &log, &now]).await?;
    Ok(hosts)
}

/// Only the beginning and the end of a long output are read.
async fn log(transaction: &Transaction<'_>, work: &Held, cap: usize) -> Result<String, Fault> {
    let excerpt = Excerpt::of(work.output_bytes, cap);
    let mut wanted = Wanted::default();
    let head = wanted.add(work.run.id, 0, excerpt.head);
    let tail = wanted.add(work.run.id, excerpt.tail, excerpt.total);
    let pieces = wanted.read(transaction).await?;
    Ok(excerpt.text(pieces.get(head), pieces.get(tail)))
}
