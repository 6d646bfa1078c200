//! Sends runs to recipients that are not our workers, after their commit, once each, and settles
//! what became of each message.

use std::collections::BTreeMap;

use dispatcher_wire::dispatch::RunCreated;
use dispatcher_worker::crash;
use futures_util::{StreamExt, stream};
use uuid::Uuid;

use super::{
    counting::{self, ApiVersion},
    model::{NewRun, SendOutcome},
    planning::{recipient_not_found, unexpected},
};
use crate::{
    connector::{Connector, SendError},
    store::RunStore,
};

/// How many messages of one request are under way at once.
pub const MAX_CONCURRENT_SENDS: usize = 10;

/// Sends all runs and settles each. Answers those that did not go well, by run; nothing is sent
/// twice, whatever happens.
pub async fn send_all(
    connector: &dyn Connector,
    store: &dyn RunStore,
    runs: &[&NewRun],
    version: ApiVersion,
) -> BTreeMap<Uuid, RunCreated> {
    // Collected first: a stream over borrowed runs would not be `Send` inside a spawned task.
    let sends: Vec<_> = runs.iter().map(|run| send(connector, store, run, version)).collect();
    let answers: Vec<_> =
        stream::iter(sends).buffer_unordered(MAX_CONCURRENT_SENDS).collect().await;
    answers.into_iter().flatten().collect()
}

/// Sends one run; an answer only where it did not go well.
async fn send(
    connector: &dyn Connector,
    store: &dyn RunStore,
    run: &NewRun,
    version: ApiVersion,
) -> Option<(Uuid, RunCreated)> {
    let sent = connector.send(run).await;
    crash::point("dispatch.sent");
    let (outcome, answer) = judge(run, &sent);
    counting::sent(run.sat_id.is_some(), &sent);
    let Err(error) = store.settle_sent(run.id, outcome).await else {
        crash::point("dispatch.settled");
        if outcome == SendOutcome::Accepted {
            counting::created(run, version);
        }
        return answer.map(|answer| (run.id, answer));
    };
    counting::not_stored(run.sat_id.is_some(), version);
    tracing::error!(run.id = %run.id, ?outcome, %error, "the outcome of a message was not stored");
    // An accepted run is under way and listed; one that should be gone is still there.
    (outcome != SendOutcome::Accepted).then(|| (run.id, unexpected()))
}

fn judge(run: &NewRun, sent: &Result<(), SendError>) -> (SendOutcome, Option<RunCreated>) {
    let (run_id, recipient) = (run.id, run.recipient);
    match sent {
        Ok(()) => (SendOutcome::Accepted, None),
        Err(SendError::NotConnected) => (SendOutcome::Refused, Some(recipient_not_found())),
        Err(SendError::Refused(reason)) => {
            tracing::warn!(run.id = %run_id, recipient.id = %recipient, reason, "a run was refused");
            (SendOutcome::Refused, Some(unexpected()))
        }
        Err(SendError::Ambiguous(reason)) => {
            tracing::warn!(
                run.id = %run_id, recipient.id = %recipient, reason,
                "nobody knows whether a run was delivered; it stays until uploads or its timeout \
                 settle it"
            );
            (SendOutcome::Ambiguous, Some(unexpected()))
        }
    }
}
