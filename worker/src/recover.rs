//! After a start: what an earlier process of this worker left is ended and reported, before
//! anything new is begun.
//!
//! A run that was claimed and not started is begun now, under its claim: that is its first start.
//! A run that was started is never begun again: whatever is left of it is killed, and the service
//! hears what was printed and that the run was interrupted, or its real result where the playbook
//! had come to its own end.

use std::{io, time::Duration};

use dispatcher_wire::{
    event::error_code,
    execution::{AppendReply, ClaimedRun},
};
use futures_util::future::join_all;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    backoff::Backoff,
    cgroup::{self, Cgroup},
    ending::{Ending, Stop},
    execute::{Context, Execution, execute},
    journal::{Journal, RunDir, Stage},
    link::LinkError,
    spool::Spool,
    tree::Members,
};

/// How often a run that was not started is come back to, before it is given up: it may be what
/// ends the worker.
const MAX_RESUMES: u32 = 3;

/// Ends what is left running of all runs; says which are to be settled.
///
/// # Errors
/// Where the disk fails; then nothing new may be begun.
pub(crate) async fn leftovers(context: &Context) -> io::Result<Vec<(RunDir, Journal)>> {
    let mut found = Vec::new();
    for run_id in context.dirs.list()? {
        let dir = context.dirs.of(run_id);
        let journal = dir.load()?;
        found.push((run_id, dir, journal));
    }
    let grace = context.config.grace;
    join_all(
        found.iter().map(|(run_id, _, journal)| end_leftovers(*run_id, journal.as_ref(), grace)),
    )
    .await;
    cgroup::sweep();
    let mut left = Vec::new();
    for (run_id, dir, journal) in found {
        tracing::info!(run.id = %run_id, stage = ?journal.as_ref().map(|found| found.stage), "recovering");
        match journal {
            None => dir.remove()?,
            Some(journal) => left.push((dir, journal)),
        }
    }
    Ok(left)
}

async fn end_leftovers(run_id: Uuid, journal: Option<&Journal>, grace: Duration) {
    let cgroup = journal.and_then(|journal| journal.cgroup.as_deref()).map(Cgroup::at);
    let ended = journal.is_some_and(|journal| journal.stage == Stage::Ended);
    // A playbook that ended by itself may have left processes on purpose.
    if !ended {
        Members::all(run_id, cgroup.clone()).end(grace).await;
    }
    if let Some(cgroup) = cgroup {
        cgroup.remove();
    }
}

/// Settles one run that was left.
///
/// # Errors
/// Where the disk fails.
pub(crate) async fn settle(context: &Context, dir: RunDir, mut journal: Journal) -> io::Result<()> {
    if context.shutdown.is_cancelled() {
        return Ok(());
    }
    if journal.stage == Stage::Claimed && journal.resumed < MAX_RESUMES {
        journal.resumed += 1;
        return execute(context, journal).await;
    }
    let mut spool = Spool::open(&dir.spool(), journal.spool_base)?;
    let Some(reply) = ask(context, &journal.run, spool.next()).await else {
        return if context.shutdown.is_cancelled() { Ok(()) } else { dir.remove() };
    };
    if reply.next_counter > spool.next() {
        // A power failure took records that the service has: go on after them.
        spool.restart_at(reply.next_counter)?;
        journal.spool_base = reply.next_counter;
        dir.save(&journal)?;
    }
    let ending = interrupted(&journal, spool.has_stats(), reply.cancel);
    Execution::begin(context, dir, journal, &spool).conclude(&ending, spool).await
}

fn interrupted(journal: &Journal, has_stats: bool, cancel: bool) -> Ending {
    if has_stats || journal.stage == Stage::Ended {
        return Ending::Played;
    }
    if OffsetDateTime::now_utc() >= journal.run.deadline {
        return Ending::Stopped(Stop::TimedOut);
    }
    if cancel {
        return Ending::Stopped(Stop::Canceled);
    }
    let details = if journal.stage == Stage::Claimed {
        "the worker ended again and again before it could start the playbook; it was not started"
    } else {
        "the worker ended while the playbook ran; what was left of the run was killed, and nothing \
         was repeated"
    };
    Ending::Failed(error_code::INTERRUPTED, details.to_owned())
}

/// What the service has of the run; nothing where it does not want to hear of it any more.
async fn ask(context: &Context, run: &ClaimedRun, mut next: u64) -> Option<AppendReply> {
    let give_up_at = run.deadline + context.config.report_for;
    let mut backoff = Backoff::default();
    loop {
        match context.link.append(run.run_id, run.claim, next, &[]).await {
            Ok(reply) => return Some(reply),
            // Records were spooled and not sent. Whether the run is to end is only said of a batch
            // that fits.
            Err(LinkError::Gap(expected)) if expected < next => {
                next = expected;
                continue;
            }
            Err(LinkError::Unavailable(_) | LinkError::KeyRefused(_))
                if OffsetDateTime::now_utc() < give_up_at => {}
            Err(error) => {
                tracing::warn!(run.id = %run.run_id, %error, "the run is given up");
                return None;
            }
        }
        tokio::select! {
            () = backoff.pause() => {}
            () = context.shutdown.cancelled() => return None,
        }
    }
}
