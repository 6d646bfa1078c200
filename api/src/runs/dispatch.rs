//! Dispatch (decision 3): a batch is checked, its runs are committed at once, workers are woken,
//! foreign hosts are sent theirs. A fixed number of statements before the first message is sent,
//! however many items there are.
//!
//! Whoever calls [`Dispatcher::dispatch`] must see to it that it is not dropped half-way: a caller
//! that hangs up must not leave runs unsent.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use dispatcher_wire::dispatch::RunCreated;
use dispatcher_worker::crash;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    counting::{self, ApiVersion},
    idempotency::Repeatable,
    model::{CreateOutcome, IdempotencyKey, NewRoute, NewRun, StoredAnswer},
    order::Order,
    planning::{DispatchRules, Planning, created, unexpected},
    policy,
    sending::send_all,
};
use crate::{
    app::App,
    audit::model::{Action, Actor, AuditEntry},
    auth::principal::Principal,
    bus::{Topic, Wakeups},
    connector::Connector,
    keyring::Keyring,
    recipients::model::Recipient,
    store::{RecipientStore, RunStore, StoreResult},
};

/// The status of an answer with an outcome per item.
const MULTI_STATUS: u16 = 207;

/// How often, and after which pause, an answer that could not be stored is tried again: a database
/// that comes back within minutes keeps the promise that a repetition has the same answer.
const STORE_ATTEMPTS: u32 = 300;
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// What dispatch needs of the service.
#[derive(Clone)]
pub struct Dispatcher {
    /// Where runs are created.
    pub runs: Arc<dyn RunStore>,
    /// Who is registered, and present.
    pub recipients: Arc<dyn RecipientStore>,
    /// The way to foreign hosts, where it is on.
    pub connector: Option<Arc<dyn Connector>>,
    /// Seals secrets.
    pub keyring: Arc<Keyring>,
    /// Wakes workers.
    pub wakeups: Wakeups,
    /// The settings.
    pub rules: DispatchRules,
}

/// A batch and who sends it.
#[derive(Clone, Debug)]
pub struct DispatchRequest {
    /// Who.
    pub principal: Principal,
    /// What, or what became of an item before.
    pub orders: Vec<Result<Order, RunCreated>>,
    /// By which version of the route.
    pub version: ApiVersion,
    /// The request's id.
    pub request_id: String,
    /// How a repetition is recognised, if it may be repeated.
    pub repeatable: Option<Repeatable>,
}

/// What a batch came to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Dispatched {
    /// This is the answer.
    Answer(StoredAnswer),
    /// The answer of an earlier request with the same key.
    Replay(StoredAnswer),
    /// An earlier request with the same key is not finished.
    InFlight,
    /// The key was used with another body.
    OtherBody,
    /// The batch breaks a rule of the contract; nothing was done.
    Invalid(&'static str),
}

impl Dispatcher {
    /// With what a service has.
    #[must_use]
    pub fn of(app: &App) -> Self {
        let settings = &app.settings.dispatch;
        Self {
            runs: Arc::clone(&app.stores.runs),
            recipients: Arc::clone(&app.stores.recipients),
            connector: app.connector.clone(),
            keyring: Arc::clone(&app.keyring),
            wakeups: app.wakeups.clone(),
            rules: DispatchRules {
                blocked_orgs: settings.blocklist.iter().cloned().collect(),
                public_url: settings.public_url.clone(),
                web_console_url: settings.web_console_url.clone(),
                satellite_response_full: settings.satellite_response_full,
                demo_mode: settings.demo_mode,
            },
        }
    }

    /// Dispatches a batch. Failures of the database are the contract's answers per item.
    pub async fn dispatch(&self, request: &DispatchRequest) -> Dispatched {
        let orders: Vec<&Order> = request.orders.iter().flatten().collect();
        if let Err(message) = policy::check_batch(&orders) {
            counting::invalid_batch();
            return Dispatched::Invalid(message);
        }
        // As precise as the databases keep it.
        let now = OffsetDateTime::now_utc().truncate_to_microsecond();
        let registered = match self.registered(&orders).await {
            Ok(registered) => registered,
            Err(error) => {
                tracing::error!(%error, "recipients of a dispatch could not be looked up");
                let lost = orders.iter().map(|order| order.is_behind_satellite());
                lost.for_each(|satellite| counting::not_stored(satellite, request.version));
                let answer = |order: &Result<_, RunCreated>| match order {
                    Ok(_) => unexpected(),
                    Err(refusal) => refusal.clone(),
                };
                let answers: Vec<_> = request.orders.iter().map(answer).collect();
                return Dispatched::Answer(answer_of(&answers));
            }
        };
        let planning = Planning {
            rules: &self.rules,
            keyring: &self.keyring,
            principal: &request.principal,
            registered: &registered,
            connector_on: self.connector.is_some(),
            now,
        };
        let plan = |order: &Result<Order, RunCreated>| match order {
            Ok(order) => planning.plan(order),
            Err(refusal) => Err(refusal.clone()),
        };
        let planned = request.orders.iter().map(plan).collect();
        self.carry_out(request, planned, now).await
    }

    async fn registered(&self, orders: &[&Order]) -> StoreResult<BTreeMap<Uuid, Recipient>> {
        let mut ids: Vec<Uuid> = orders.iter().map(|order| order.recipient).collect();
        ids.sort_unstable();
        ids.dedup();
        self.recipients.find(&ids).await
    }

    async fn carry_out(
        &self,
        request: &DispatchRequest,
        planned: Vec<Result<NewRun, RunCreated>>,
        now: OffsetDateTime,
    ) -> Dispatched {
        let (mut answers, runs) = split(planned);
        let sent = runs.iter().any(|run| matches!(run.route, NewRoute::CloudConnector));
        let key = request.repeatable.as_ref().map(|repeatable| {
            if sent {
                return repeatable.in_flight(&request.principal, now);
            }
            repeatable.answered(&request.principal, now, answer_of(&answers))
        });
        let created = runs.iter().map(|run| (run.org_id.as_str(), run.id));
        let actor = Actor::of(&request.principal, request.request_id.clone());
        let audit = actor.did_to_runs(Action::RunDispatch, created, now);
        match self.commit(&runs, key.as_ref(), &audit).await {
            Ok(CreateOutcome::Created) => {}
            Ok(CreateOutcome::Replay(answer)) => return Dispatched::Replay(answer),
            Ok(CreateOutcome::InFlight) => return Dispatched::InFlight,
            Ok(CreateOutcome::OtherBody) => return Dispatched::OtherBody,
            Err(error) => {
                tracing::error!(%error, runs = runs.len(), "the runs of a dispatch were not stored");
                let lost = runs.iter().map(|run| run.sat_id.is_some());
                lost.for_each(|satellite| counting::not_stored(satellite, request.version));
                let failed = runs.iter().map(|run| (run.id, unexpected())).collect();
                replace(&mut answers, &failed);
                return Dispatched::Answer(answer_of(&answers));
            }
        }
        self.wake_workers(&runs, request.version);
        if sent {
            replace(&mut answers, &self.send(&runs, request.version).await);
            self.remember(request, &answers).await;
        }
        Dispatched::Answer(answer_of(&answers))
    }

    async fn commit(
        &self,
        runs: &[NewRun],
        key: Option<&IdempotencyKey>,
        audit: &[AuditEntry],
    ) -> StoreResult<CreateOutcome> {
        if runs.is_empty() && key.is_none() {
            return Ok(CreateOutcome::Created);
        }
        crash::point("dispatch.before_commit");
        let outcome = self.runs.create(runs, key, audit).await;
        crash::point("dispatch.committed");
        outcome
    }

    fn wake_workers(&self, runs: &[NewRun], version: ApiVersion) {
        let of_workers = runs.iter().filter(|run| matches!(run.route, NewRoute::Worker { .. }));
        of_workers.for_each(|run| {
            counting::created(run, version);
            self.wakeups.wake(Topic::Recipient(run.recipient));
        });
        self.wakeups.wake(Topic::Events);
    }

    async fn send(&self, runs: &[NewRun], version: ApiVersion) -> BTreeMap<Uuid, RunCreated> {
        let Some(connector) = &self.connector else { return BTreeMap::new() };
        let foreign: Vec<&NewRun> =
            runs.iter().filter(|run| matches!(run.route, NewRoute::CloudConnector)).collect();
        send_all(connector.as_ref(), self.runs.as_ref(), &foreign, version).await
    }

    /// Keeps the answer of a request whose messages are sent. The caller does not wait for a
    /// database that is away: until the answer is stored, a repetition is refused as in flight.
    async fn remember(&self, request: &DispatchRequest, answers: &[RunCreated]) {
        let Some(repeatable) = &request.repeatable else { return };
        let answer = answer_of(answers);
        let key =
            repeatable.answered(&request.principal, OffsetDateTime::now_utc(), answer.clone());
        crash::point("dispatch.before_answer");
        if let Err(error) = self.runs.finish_idempotent(&key, &answer).await {
            tracing::warn!(%error, "the answer of a repeatable dispatch is not stored yet");
            tokio::spawn(store_later(Arc::clone(&self.runs), key, answer));
        }
    }
}

/// Stores an answer when the database is back.
async fn store_later(runs: Arc<dyn RunStore>, key: IdempotencyKey, answer: StoredAnswer) {
    for _ in 0..STORE_ATTEMPTS {
        tokio::time::sleep(STORE_PAUSE).await;
        if runs.finish_idempotent(&key, &answer).await.is_ok() {
            return;
        }
    }
    tracing::error!("the answer of a repeatable dispatch was not stored: its key stays in flight");
}

/// The answers as they are when all goes well, and the runs to be created.
fn split(planned: Vec<Result<NewRun, RunCreated>>) -> (Vec<RunCreated>, Vec<NewRun>) {
    let mut runs = Vec::with_capacity(planned.len());
    let answer = |planned: Result<NewRun, RunCreated>| match planned {
        Ok(run) => {
            let answer = created(run.id);
            runs.push(run);
            answer
        }
        Err(refusal) => refusal,
    };
    (planned.into_iter().map(answer).collect(), runs)
}

fn replace(answers: &mut [RunCreated], failed: &BTreeMap<Uuid, RunCreated>) {
    for answer in answers {
        if let Some(other) = answer.id.and_then(|id| failed.get(&id)) {
            answer.clone_from(other);
        }
    }
}

fn answer_of(answers: &[RunCreated]) -> StoredAnswer {
    // Codes, ids and texts always are JSON.
    let mut body = serde_json::to_vec(answers).unwrap_or_default();
    body.push(b'\n');
    StoredAnswer { status: MULTI_STATUS, body }
}
