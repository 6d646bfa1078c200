//! The end of a run by its worker: states, logs and events of the run and every host, at once.

use dispatcher_wire::RunStatus;
use rusqlite::{Transaction, params};

use super::{
    super::StoreResult,
    changes::{close_work, hosts_of, set_error, set_status},
    encode::{At, State},
    logs,
    outbox::host_events,
    work::{Held, held},
};
use crate::{
    events::model::EventType,
    execution::{
        model::{Finish, FinishOutcome, Hold, WorkState},
        outcome::FinalStates,
    },
};

/// Ends a run; repeated, it answers with the state the run is in.
pub(super) fn finish(
    tx: &Transaction<'_>,
    hold: Hold,
    finish: &Finish,
) -> StoreResult<FinishOutcome> {
    let Some(mut work) = held(tx, hold)? else {
        return Ok(FinishOutcome::NotYours);
    };
    if work.state == WorkState::Done {
        return Ok(FinishOutcome::Final(work.run.status));
    }
    if work.next_counter < finish.next_counter {
        return Ok(FinishOutcome::Gap { next_counter: work.next_counter });
    }
    let states = work.outcome.final_states();
    if let Some((code, details)) = &work.outcome.error {
        set_error(tx, work.run.id, code, details)?;
    }
    if work.run.status.may_become(states.run) {
        set_status(tx, &mut work.run, states.run, finish.now)?;
    }
    end_hosts(tx, &work, &states, finish)?;
    close_work(tx, work.run.id)?;
    Ok(FinishOutcome::Final(work.run.status))
}

/// Gives every host its log and its state, as far as the state it has allows.
fn end_hosts(
    tx: &Transaction<'_>,
    work: &Held,
    states: &FinalStates,
    finish: &Finish,
) -> StoreResult<()> {
    let mut hosts = hosts_of(tx, work.run.id)?;
    if hosts.is_empty() {
        return Ok(());
    }
    let log = logs::capped(tx, work.run.id, work.output_bytes, finish.log_cap(hosts.len()))?;
    let mut update = tx.prepare_cached(
        "UPDATE run_hosts SET status = ?2, log = ?3, updated_at = ?4 WHERE id = ?1",
    )?;
    for host in &mut hosts {
        let own: RunStatus = states.hosts.get(&host.host).copied().unwrap_or(states.other_hosts);
        if host.status.may_become(own) {
            host.status = own;
        }
        host.updated_at = finish.now;
        update.execute(params![host.id, State(host.status), log, At(finish.now)])?;
    }
    host_events(tx, &work.run, &hosts, EventType::Update)
}
