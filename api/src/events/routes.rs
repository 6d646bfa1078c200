//! Events over HTTP: streams of them for organisations; and consumers of the broker ask for the current
//! state.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
};
use futures_util::{Stream, StreamExt as _, stream};
use time::OffsetDateTime;
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use super::{
    feed::{Feed, FeedFilter, Read},
    model::{Entity, Position},
    read::{ReadAnswer, ReadRequest, read},
    sse,
};
use crate::{
    app::App,
    audit::model::Actor,
    auth::principal::{Kind, Role},
    http::{
        extract::{OrgOperator, RunReader, RunScope, Segments, Standing},
        json::JsonReply,
        parameters::{FilterSpec, Filters},
        problem::{Problem, request_id},
        query::RawQuery,
    },
};

/// The place behind the last event that a client has had.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// The same for the first request of clients that cannot set headers.
const LAST_EVENT_ID_QUERY: &str = "last_event_id";
/// Tells proxies that collect answers not to.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// After which pause a client that was cut off comes again.
const RETRY: Duration = Duration::from_secs(2);

const ENTITY: FilterSpec = FilterSpec {
    name: "entity",
    component: None,
    allowed: &["run", "run_host"],
    may_be_empty: false,
};
const FILTERS: Filters = Filters {
    members: &[FilterSpec::STATUS, FilterSpec::SERVICE, ENTITY],
    labels: false,
    run: None,
};

/// `GET …/events`: events of the organisation from a place on, or from now on, for as long as the
/// client listens.
pub async fn of_org(
    State(app): State<App>,
    reader: RunReader,
    standing: Standing,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let query = RawQuery::parse(uri.query().unwrap_or_default());
    let after = last_event_id(&headers, &query)?.map(|text| {
        Position::parse(&text).ok_or_else(|| {
            wrong_id(&text, "the id of an event of this stream, or 0-0 for the oldest")
        })
    });
    let scope = reader.scope_of_ours(&app).await?;
    let (after, filter) = (after.transpose()?, filter(&query, scope.clone())?);
    let room = room(&app)?;
    let items = feed(&app).of_org(filter, after).await?;
    Ok(answer(items, standing.ended(scope), room))
}

/// `GET …/runs/{id}/events`: events of one run, from the first or behind a number, until it is over.
pub async fn of_run(
    State(app): State<App>,
    reader: RunReader,
    standing: Standing,
    Segments(id): Segments<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let query = RawQuery::parse(uri.query().unwrap_or_default());
    let number = |text: &str| text.parse().ok().filter(|number: &i64| *number >= 0);
    let after = last_event_id(&headers, &query)?.map(|text| {
        number(&text).ok_or_else(|| wrong_id(&text, "the number of an event of this run, from 0"))
    });
    let after = after.transpose()?.unwrap_or(0);
    let run_id = Uuid::parse_str(&id).map_err(|_| Problem::no_run(&id))?;
    let scope = reader.scope_of_ours(&app).await?;
    let found = app.stores.runs.get(&scope.org_id, run_id).await?;
    found
        .filter(|it| it.run.is_of_services(&scope.services))
        .ok_or_else(|| Problem::no_run(&id))?;
    let feed = feed(&app);
    // Whoever has all of it need not come again: that is what clients take this for.
    if after > 0 && feed.is_read(&scope.org_id, run_id, after).await? {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let room = room(&app)?;
    let items = feed.of_run(scope.org_id.clone(), run_id, after);
    Ok(answer(items, standing.ended(scope), room))
}

fn feed(app: &App) -> Feed {
    Feed {
        events: Arc::clone(&app.stores.feed),
        runs: Arc::clone(&app.stores.runs),
        wakeups: app.wakeups.clone(),
        shutdown: app.shutdown.clone(),
        heartbeat: app.settings.events.heartbeat,
    }
}

fn room(app: &App) -> Result<OwnedSemaphorePermit, Problem> {
    Arc::clone(&app.event_streams).try_acquire_owned().map_err(|_| {
        let message = format!(
            "this instance holds {} streams of events, which is all it may (EVENTS_STREAMS); come \
             again later",
            app.settings.events.streams
        );
        Problem::ours(StatusCode::SERVICE_UNAVAILABLE, "too_many_streams", message)
    })
}

fn filter(query: &RawQuery, scope: RunScope) -> Result<FeedFilter, Problem> {
    let mut members = query
        .filters(&FILTERS)
        .map_err(|message| Problem::ours(StatusCode::BAD_REQUEST, "invalid_filter", message))?;
    Ok(FeedFilter {
        org_id: scope.org_id,
        services: scope.services,
        service: members.remove("service"),
        status: members.remove("status"),
        entity: members.remove("entity").and_then(|name| Entity::parse(&name)),
    })
}

/// What the client has had last; what is empty says nothing.
fn last_event_id(headers: &HeaderMap, query: &RawQuery) -> Result<Option<String>, Problem> {
    let values: Vec<&str> = match headers.get(LAST_EVENT_ID) {
        Some(value) => vec![value.to_str().unwrap_or("\u{fffd}")],
        None => query.values(LAST_EVENT_ID_QUERY).collect(),
    };
    match values.as_slice() {
        [] | [""] => Ok(None),
        [text] => Ok(Some((*text).to_owned())),
        several => Err(wrong_id(&several.join(", "), "one place, named once")),
    }
}

fn wrong_id(text: &str, allowed: &str) -> Problem {
    let message = format!("Last-Event-ID {text:?} is not acceptable; allowed: {allowed}");
    Problem::ours(StatusCode::BAD_REQUEST, "invalid_last_event_id", message)
}

/// The stream, for as long as the caller would be let in.
fn answer(
    items: impl Stream<Item = Read> + Send + 'static,
    ended: impl Future<Output = ()> + Send + 'static,
    room: OwnedSemaphorePermit,
) -> Response {
    let open = metrics::gauge!("dispatcher_event_streams");
    open.increment(1.0);
    let held = Held { open, _room: room };
    let opening = stream::once(async { Ok(Bytes::from(sse::opening(RETRY))) });
    let blocks = items.take_until(Box::pin(ended)).map(move |item| {
        let _ = &held;
        item.map(|item| Bytes::from(sse::block(&item))).inspect_err(|error| {
            tracing::warn!(%error, "a stream of events is cut; its client comes again");
        })
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(sse::CONTENT_TYPE)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (BUFFERING, HeaderValue::from_static("no")),
    ];
    (headers, Body::from_stream(opening.chain(blocks))).into_response()
}

/// What an open stream takes.
struct Held {
    open: metrics::Gauge,
    _room: OwnedSemaphorePermit,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.open.decrement(1.0);
    }
}

/// `POST …/events/read`: tells consumers of runs of the organisation again, a bounded number a
/// request. For services and admins.
pub async fn read_again(
    State(app): State<App>,
    OrgOperator(caller): OrgOperator,
    body: Bytes,
) -> Result<JsonReply<ReadAnswer>, Problem> {
    if caller.principal.kind != Kind::Service && caller.principal.role < Role::Admin {
        let message = "this needs the role admin, or the key of a service";
        return Err(Problem::ours(StatusCode::FORBIDDEN, "role_required", message));
    }
    let invalid = |message: String| Problem::ours(StatusCode::BAD_REQUEST, "invalid_read", message);
    let request: ReadRequest = if body.is_empty() {
        ReadRequest::default()
    } else {
        serde_json::from_slice(&body)
            .map_err(|error| invalid(format!("the body is not a request for events: {error}")))?
    };
    let reading = request.understand(Some(caller.org_id)).map_err(invalid)?;
    // Before the first event, and before the first of several commits.
    let now = OffsetDateTime::now_utc().truncate_to_microsecond();
    let actor = Actor::of(&caller.principal, request_id());
    app.stores.audit.note(&[reading.asked_by(&actor, now)]).await?;
    let page = read(app.stores.events.as_ref(), &app.wakeups, &reading).await?;
    tracing::info!(
        principal = caller.principal.id,
        runs = page.runs,
        run_hosts = page.run_hosts,
        "events are told again"
    );
    Ok(JsonReply(StatusCode::OK, page.into()))
}
