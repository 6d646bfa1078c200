//! Runs over HTTP: dispatch and cancel for services, lists, single runs and their logs for
//! organisations.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use dispatcher_wire::{
    RunStatus,
    dispatch::{AccountItem, CancelItem, DispatchItem, RunCanceled, RunCreated},
    view::{Page, RunView},
};
use futures_util::StreamExt as _;
use serde_json::Value;
use time::OffsetDateTime;
use tracing::Instrument as _;
use uuid::Uuid;

use super::{
    accounts,
    cancel::Canceler,
    counting::{self, ApiVersion},
    dispatch::{DispatchRequest, Dispatched, Dispatcher},
    fields::{Fields, RUN_DEFAULTS, RUN_FIELDS},
    idempotency::Repeatable,
    list,
    log::{LogReader, LogRequest, Opened},
    model::{RunFilter, RunQuery, StoredAnswer},
    order::Order,
    view,
};
use crate::{
    app::App,
    auth::principal::Principal,
    http::{
        extract::{PskJson, RunReader, RunScope, Segments, Standing},
        json::{self, JsonReply},
        links,
        parameters::{FilterSpec, Filters},
        problem::{Problem, request_id},
        query::{Checked, ListSpec, RawQuery},
    },
    request,
};

const CANCEL: &str = "/internal/v2/cancel";
const IDEMPOTENCY_KEY: &str = "idempotency-key";
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// The byte of the log that an answer begins with.
const LOG_START: HeaderName = HeaderName::from_static("dispatcher-log-start");
/// The state of the run when the answer began.
const RUN_STATUS: HeaderName = HeaderName::from_static("dispatcher-run-status");

const RECIPIENT: FilterSpec =
    FilterSpec { name: "recipient", component: None, allowed: &[], may_be_empty: true };
/// What the list of runs can be filtered by.
pub const FILTERS: Filters = Filters {
    members: &[FilterSpec::STATUS, FilterSpec::SERVICE, RECIPIENT],
    labels: true,
    run: None,
};
const QUERY: ListSpec = ListSpec { filters: FILTERS, is_sorted: true };

/// The checked members of a filter.
pub(super) type Members = BTreeMap<&'static str, String>;

/// `POST /internal/v2/dispatch`: runs playbooks, an outcome per item.
pub async fn dispatch(
    State(app): State<App>,
    headers: HeaderMap,
    body: PskJson<Vec<DispatchItem>>,
) -> Result<Response, Problem> {
    let PskJson { service, value, raw } = body;
    let orders = std::future::ready(value.into_iter().map(|item| Ok(item.into())).collect());
    carry_out(&app, (&headers, raw), service, ApiVersion::V2, orders).await
}

/// `POST /internal/dispatch`: the same by account.
pub async fn dispatch_by_account(
    State(app): State<App>,
    headers: HeaderMap,
    body: PskJson<Vec<AccountItem>>,
) -> Result<Response, Problem> {
    let PskJson { service, value, raw } = body;
    let tenants = app.tenants.clone();
    let orders = async move { accounts::orders(tenants.as_deref(), value).await };
    carry_out(&app, (&headers, raw), service, ApiVersion::V1, orders).await
}

async fn carry_out(
    app: &App,
    (headers, body): (&HeaderMap, Bytes),
    principal: Principal,
    version: ApiVersion,
    orders: impl Future<Output = Vec<Result<Order, RunCreated>>> + Send + 'static,
) -> Result<Response, Problem> {
    let keys: Vec<&[u8]> =
        headers.get_all(IDEMPOTENCY_KEY).iter().map(HeaderValue::as_bytes).collect();
    let repeatable = Repeatable::new(&keys, &body)
        .map_err(|why| Problem::ours(StatusCode::BAD_REQUEST, "invalid_idempotency_key", why))?;
    let (dispatcher, request_id) = (Dispatcher::of(app), request_id());
    // In a task of its own: a caller that hangs up must not leave committed runs unsent.
    let work = async move {
        let orders = orders.await;
        let request = DispatchRequest { principal, orders, version, request_id, repeatable };
        dispatcher.dispatch(&request).await
    };
    let dispatched = tokio::spawn(request::within(request::ids(), work).in_current_span()).await;
    dispatched
        .map_err(|error| Problem::internal("a dispatch was cut short", &error))
        .map(answer_dispatch)
}

fn answer_dispatch(dispatched: Dispatched) -> Response {
    match dispatched {
        Dispatched::Answer(answer) => stored(answer),
        Dispatched::Replay(answer) => {
            let mut response = stored(answer);
            let replayed = HeaderValue::from_static("true");
            response.headers_mut().insert(IDEMPOTENCY_REPLAYED, replayed);
            response
        }
        Dispatched::Invalid(message) => Problem::bad_request(message).into_response(),
        Dispatched::InFlight => {
            let message = "a request with this Idempotency-Key is still being carried out";
            let status = StatusCode::CONFLICT;
            let problem = Problem::ours(status, "idempotency_in_flight", message);
            let mut response = problem.into_response();
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            response
        }
        Dispatched::OtherBody => {
            let message = "this Idempotency-Key was used with another body; use a new key";
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            Problem::ours(status, "idempotency_key_reused", message).into_response()
        }
    }
}

fn stored(answer: StoredAnswer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::MULTI_STATUS);
    json::from_bytes(status, answer.body)
}

/// `POST /internal/v2/cancel`: cancels runs, a code per item.
pub async fn cancel(
    State(app): State<App>,
    body: PskJson<Vec<CancelItem>>,
) -> Result<JsonReply<Vec<RunCanceled>>, Problem> {
    let canceler = Canceler {
        runs: Arc::clone(&app.stores.runs),
        audit: Arc::clone(&app.stores.audit),
        connector: app.connector.clone(),
        wakeups: app.wakeups.clone(),
    };
    let canceled = canceler.cancel(&body.service, request_id(), &body.value).await;
    let canceled = canceled.inspect_err(|_| counting::not_read(CANCEL))?;
    Ok(JsonReply(StatusCode::MULTI_STATUS, canceled))
}

/// `GET …/runs`: the organisation's runs.
pub async fn list(
    State(app): State<App>,
    reader: RunReader,
    uri: Uri,
) -> Result<JsonReply<Page<Value>>, Problem> {
    let query = RawQuery::parse(uri.query().unwrap_or_default());
    let Checked { members, ascending, page } =
        query.checked(&QUERY).map_err(Problem::bad_request)?;
    let scope = reader.scope(&app).await?;
    query.bound(&QUERY).map_err(Problem::bad_request)?;
    let fields = query.fields(&RUN_FIELDS, &RUN_DEFAULTS).map_err(Problem::bad_request)?;
    let filter = run_filter(&query, &members, scope)?;
    let wanted = RunQuery {
        filter,
        ascending,
        limit: page.limit,
        offset: page.offset,
        now: OffsetDateTime::now_utc(),
    };
    let found = list::list(app.stores.runs.as_ref(), &wanted, &Fields::new(fields)).await;
    let found = found.inspect_err(|_| counting::not_read(uri.path()))?;
    let body = links::page(uri.path(), &query, page, found.rows, found.total);
    Ok(JsonReply(StatusCode::OK, body))
}

fn run_filter(query: &RawQuery, members: &Members, scope: RunScope) -> Result<RunFilter, Problem> {
    Ok(RunFilter {
        org_id: scope.org_id,
        services: scope.services,
        status: status_of(members),
        recipient: uuid_of(members, "recipient", "Unable to parse recipient!")?,
        service: members.get("service").cloned(),
        labels: query.nested("filter[labels]"),
    })
}

pub(super) fn status_of(members: &Members) -> Option<RunStatus> {
    members.get("status").and_then(|status| RunStatus::parse(status))
}

pub(super) fn uuid_of(
    members: &Members,
    member: &str,
    message: &str,
) -> Result<Option<Uuid>, Problem> {
    members.get(member).map(|text| parse_uuid(text, message)).transpose()
}

/// Any textual form of a UUID.
pub(super) fn parse_uuid(text: &str, message: &str) -> Result<Uuid, Problem> {
    Uuid::parse_str(text).map_err(|_| Problem::bad_request(message))
}

/// `GET …/runs/{id}`: one run in full.
pub async fn show(
    State(app): State<App>,
    reader: RunReader,
    Segments(id): Segments<String>,
) -> Result<JsonReply<RunView>, Problem> {
    let run_id = run_id(&id)?;
    let RunScope { org_id, services } = reader.scope_of_ours(&app).await?;
    let now = OffsetDateTime::now_utc();
    let found = view::view(app.stores.runs.as_ref(), &org_id, &services, run_id, now).await?;
    found.map(|run| JsonReply(StatusCode::OK, run)).ok_or_else(|| Problem::no_run(&id))
}

/// `GET …/runs/{id}/log`: what a run printed.
pub async fn log(
    State(app): State<App>,
    reader: RunReader,
    standing: Standing,
    Segments(id): Segments<String>,
    uri: Uri,
) -> Result<Response, Problem> {
    read_log(&app, (reader, standing), &id, None, &uri).await
}

/// `GET …/runs/{id}/hosts/{host}/log`: what a run printed, for one of its hosts.
pub async fn host_log(
    State(app): State<App>,
    reader: RunReader,
    standing: Standing,
    Segments((id, host)): Segments<(String, String)>,
    uri: Uri,
) -> Result<Response, Problem> {
    read_log(&app, (reader, standing), &id, Some(host), &uri).await
}

async fn read_log(
    app: &App,
    (reader, standing): (RunReader, Standing),
    id: &str,
    host: Option<String>,
    uri: &Uri,
) -> Result<Response, Problem> {
    let run_id = run_id(id)?;
    let query = RawQuery::parse(uri.query().unwrap_or_default());
    let (from, follow) = (log_start(&query)?, log_follow(&query)?);
    let scope = reader.scope_of_ours(app).await?;
    let RunScope { org_id, services } = scope.clone();
    let missing = host.clone().unwrap_or_default();
    let request = LogRequest { org_id, services, run_id, host, from, follow };
    let reader = LogReader {
        runs: Arc::clone(&app.stores.runs),
        wakeups: app.wakeups.clone(),
        shutdown: app.shutdown.clone(),
    };
    match reader.open(request).await? {
        Opened::NoRun => Err(Problem::no_run(id)),
        Opened::NoHost => {
            Err(Problem::not_found("host_not_found", format!("run {id} has no host {missing:?}")))
        }
        Opened::Output(status, output) => {
            let headers = [
                (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
                (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
                (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
                (LOG_START, HeaderValue::from(from)),
                (RUN_STATUS, HeaderValue::from_static(status.as_str())),
            ];
            let body = if follow {
                Body::from_stream(output.take_until(Box::pin(standing.ended(scope))))
            } else {
                Body::from_stream(output)
            };
            Ok((headers, body).into_response())
        }
    }
}

/// Positions beyond what the databases count in are no positions.
fn log_start(query: &RawQuery) -> Result<u64, Problem> {
    let values: Vec<&str> = query.values("from").collect();
    let position = |text: &str| text.parse::<u64>().ok().filter(|at| i64::try_from(*at).is_ok());
    match values.as_slice() {
        [] => Ok(0),
        [text] => position(text).ok_or_else(|| {
            bad_parameter(
                "invalid_from",
                format!("from={text:?} is not the number of a byte, from 0"),
            )
        }),
        _ => Err(bad_parameter("invalid_from", "from is given more than once".to_owned())),
    }
}

fn log_follow(query: &RawQuery) -> Result<bool, Problem> {
    match query.values("follow").collect::<Vec<_>>().as_slice() {
        [] | ["false"] => Ok(false),
        ["true"] => Ok(true),
        given => {
            let given = given.join(", ");
            let message = format!("follow={given:?} is not acceptable; allowed: true, false");
            Err(bad_parameter("invalid_follow", message))
        }
    }
}

fn bad_parameter(code: &'static str, message: String) -> Problem {
    Problem::ours(StatusCode::BAD_REQUEST, code, message)
}

/// An id that is none cannot be that of a run.
fn run_id(text: &str) -> Result<Uuid, Problem> {
    Uuid::parse_str(text).map_err(|_| Problem::no_run(text))
}
