//! Cancel: our workers' runs are canceled or asked to end in one statement for the whole batch;
//! Satellite runs are asked for over the connector, others elsewhere cannot be.

use std::sync::Arc;

use dispatcher_wire::{
    RunStatus,
    dispatch::{CancelItem, RunCanceled},
};
use dispatcher_worker::crash;
use futures_util::{StreamExt, stream};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    counting,
    model::{CancelOutcome, CancelRequest, RunRow},
    sending::MAX_CONCURRENT_SENDS,
};
use crate::{
    audit::model::{Action, Actor},
    auth::principal::Principal,
    bus::{Topic, Wakeups},
    connector::{Connector, SendError},
    store::{AuditStore, RunStore, StoreResult},
};

const ACCEPTED: u16 = 202;
const BAD_REQUEST: u16 = 400;
const NOT_FOUND: u16 = 404;
const CONFLICT: u16 = 409;
const FAILED: u16 = 500;

/// What cancel needs of the service.
#[derive(Clone)]
pub struct Canceler {
    /// Where runs are.
    pub runs: Arc<dyn RunStore>,
    /// Where cancellations are noted that are made elsewhere.
    pub audit: Arc<dyn AuditStore>,
    /// The way to foreign hosts, where it is on.
    pub connector: Option<Arc<dyn Connector>>,
    /// Wakes workers and followers.
    pub wakeups: Wakeups,
}

impl Canceler {
    /// Cancels a batch; answers in its order, each with the contract's code.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn cancel(
        &self,
        principal: &Principal,
        request_id: String,
        items: &[CancelItem],
    ) -> StoreResult<Vec<RunCanceled>> {
        let actor = Actor::of(principal, request_id);
        let is_allowed = |item: &&CancelItem| principal.may_act_for(&item.org_id);
        let requests: Vec<CancelRequest> = items.iter().filter(is_allowed).map(request).collect();
        let outcomes = if requests.is_empty() {
            Vec::new()
        } else {
            crash::point("cancel.before_commit");
            self.runs.cancel(&requests, OffsetDateTime::now_utc(), Some(&actor)).await?
        };
        crash::point("cancel.committed");
        self.note_elsewhere(&actor, &outcomes).await?;
        // Outcomes come in the order of the items that were asked for.
        let mut outcomes = outcomes.into_iter();
        let answers: Vec<_> = items
            .iter()
            .map(|item| {
                let outcome = is_allowed(&item).then(|| outcomes.next()).flatten();
                self.answer(item, outcome.unwrap_or(CancelOutcome::OtherOrg))
            })
            .collect();
        Ok(stream::iter(answers).buffered(MAX_CONCURRENT_SENDS).collect().await)
    }

    /// The log says who asks for the end of a run elsewhere before anybody is asked: what happens
    /// there is in no transaction of ours.
    async fn note_elsewhere(&self, by: &Actor, outcomes: &[CancelOutcome]) -> StoreResult<()> {
        let asked = outcomes.iter().filter_map(|outcome| match outcome {
            CancelOutcome::Elsewhere(run) if elsewhere(run).is_ok() => {
                Some((run.org_id.as_str(), run.id))
            }
            _ => None,
        });
        let entries = by.did_to_runs(Action::RunCancel, asked, OffsetDateTime::now_utc());
        if entries.is_empty() || self.connector.is_none() {
            return Ok(());
        }
        self.audit.note(&entries).await
    }

    async fn answer(&self, item: &CancelItem, outcome: CancelOutcome) -> RunCanceled {
        let code = match outcome {
            CancelOutcome::NotFound => NOT_FOUND,
            CancelOutcome::OtherOrg => BAD_REQUEST,
            CancelOutcome::NotRunning => CONFLICT,
            CancelOutcome::Canceled => {
                self.wakeups.wake(Topic::Run(item.run_id));
                self.wakeups.wake(Topic::Events);
                ACCEPTED
            }
            CancelOutcome::Requested { recipient } => {
                self.wakeups.wake(Topic::Recipient(recipient));
                ACCEPTED
            }
            CancelOutcome::Elsewhere(run) => self.elsewhere(&run, &item.principal).await,
        };
        counting::canceled(code);
        // The zero id of failed items is the contract's: clients go by position.
        RunCanceled { code, run_id: if code == ACCEPTED { item.run_id } else { Uuid::nil() } }
    }

    /// The state arrives later, by the Satellite's uploads.
    async fn elsewhere(&self, run: &RunRow, principal: &str) -> u16 {
        if let Err(code) = elsewhere(run) {
            return code;
        }
        let Some(connector) = &self.connector else { return CONFLICT };
        let sent = connector.cancel(run, principal).await;
        counting::sent(true, &sent);
        match sent {
            Ok(()) => ACCEPTED,
            Err(SendError::NotConnected) => CONFLICT,
            Err(SendError::Refused(reason) | SendError::Ambiguous(reason)) => {
                tracing::warn!(run.id = %run.id, reason, "a cancellation was not delivered");
                FAILED
            }
        }
    }
}

/// The contract's checks of a run that is not our workers', in its order.
fn elsewhere(run: &RunRow) -> Result<(), u16> {
    if run.sat_id.is_none() || run.sat_org_id.is_none() {
        return Err(BAD_REQUEST);
    }
    if run.status != RunStatus::Running {
        return Err(CONFLICT);
    }
    Ok(())
}

fn request(item: &CancelItem) -> CancelRequest {
    CancelRequest {
        run_id: item.run_id,
        org_id: item.org_id.clone(),
        principal: item.principal.clone(),
    }
}
