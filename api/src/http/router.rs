//! The one page of routes, by who calls them.
//!
//! Nothing but the list, and the limits of each group; handlers live with their capability.

use axum::{
    Router,
    extract::{DefaultBodyLimit, FromRequestParts as _, Request, State},
    http::StatusCode,
    middleware::{from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{delete, get, post, put},
};

use super::{extract::OrgCaller, health, layers, openapi, problem::Problem};
use crate::{
    app::App, audit, auth, config::uploads::UPLOAD_PATH, events, execution, instances, keys,
    playbooks, recipients, runs, uploads,
};

/// Everything under here is answered to organisations, by key or identity.
pub const PUBLIC: &str = "/api/playbook-dispatcher/";
/// Everything under here is answered to services.
const INTERNAL: &str = "/internal/";

/// Whether a path is within a group, its root among them.
fn is_within(path: &str, group: &str) -> bool {
    path.starts_with(group) || path == group.trim_end_matches('/')
}

/// Every route of the service.
pub fn router(app: &App) -> Router {
    let ordinary = Router::new()
        .merge(services())
        .merge(organisations())
        .merge(admins())
        .layer(DefaultBodyLimit::max(app.settings.http.max_body))
        .layer(from_fn_with_state(app.clone(), layers::limit_body))
        .layer(from_fn_with_state(app.clone(), layers::limit_time));
    let transfers = Router::new()
        .merge(workers())
        .merge(files(app.settings.uploads.max_size))
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(app.clone(), layers::limit_transfer_time));
    let all = ordinary
        .merge(transfers)
        .merge(probes())
        .fallback(unmatched)
        .method_not_allowed_fallback(wrong_method);
    surround(all, app).with_state(app.clone())
}

/// Routes of services: the contract's internal ones.
fn services() -> Router<App> {
    Router::new()
        .route("/internal/dispatch", post(runs::routes::dispatch_by_account))
        .route("/internal/v2/dispatch", post(runs::routes::dispatch))
        .route("/internal/v2/cancel", post(runs::routes::cancel))
        .route("/internal/v2/recipients/status", post(recipients::routes::status))
        .route("/internal/v2/connection_status", post(recipients::connection::routes::status))
        .route(
            "/internal/v2/run_hosts",
            get(runs::hosts::routes::list_on_behalf).head(wrong_method),
        )
        .route("/internal/version", get(health::version).head(wrong_method))
}

/// Routes of organisations: what people and services read and change; and how a worker becomes one.
fn organisations() -> Router<App> {
    Router::new()
        .route(&under("runs"), get(runs::routes::list).head(wrong_method))
        .route(&under("runs/{id}"), get(runs::routes::show))
        .route(&under("runs/{id}/log"), get(runs::routes::log))
        .route(&under("runs/{id}/hosts/{host}/log"), get(runs::routes::host_log))
        .route(&under("run_hosts"), get(runs::hosts::routes::list).head(wrong_method))
        .route(&under("events"), get(events::routes::of_org))
        .route(&under("recipients"), get(recipients::routes::list))
        .route(&under("recipients/registrations"), post(recipients::routes::make_token))
        .route(&under("recipients/register"), post(recipients::routes::register))
        .route(
            &under("recipients/{id}"),
            get(recipients::routes::show).delete(recipients::routes::remove),
        )
        .route(&under("recipients/{id}/labels"), put(recipients::routes::set_labels))
        .route(&under("identity"), get(auth::routes::identity))
        .route("/api/v1/identity", get(auth::routes::identity))
        .route(&under("uploads"), get(uploads::routes::list))
        .route(&under("playbooks"), get(playbooks::routes::list))
        .route(&under("playbooks/{name}"), get(playbooks::routes::get))
}

/// Routes of admins: who may call, and what was changed.
fn admins() -> Router<App> {
    Router::new()
        .route(&under("keys"), get(keys::routes::list).post(keys::routes::create))
        .route(&under("keys/{id}"), delete(keys::routes::revoke))
        .route(&under("keys/{id}/rotate"), post(keys::routes::rotate))
        .route(&under("auth/confirmations"), get(keys::routes::confirmations))
        .route(&under("audit"), get(audit::routes::list))
        .route(&under("instances"), get(instances::routes::list))
        .route(&under("events/read"), post(events::routes::read_again))
}

/// Routes of workers: they hold a request open, or send up to
/// [`dispatcher_wire::execution::MAX_EVENTS_BYTES`].
fn workers() -> Router<App> {
    Router::new()
        .route(&under("execution/wait"), post(execution::routes::wait))
        .route(&under("execution/claim"), post(execution::routes::claim))
        .route(&under("execution/facts"), post(recipients::routes::set_facts))
        .route(&under("runs/{id}/inputs"), get(execution::routes::inputs))
        .route(
            &under("runs/{id}/events"),
            post(execution::routes::append).get(events::routes::of_run),
        )
        .route(&under("runs/{id}/finish"), post(execution::routes::finish))
}

/// Routes that carry files, each with its own limit of size.
fn files(max_upload: u64) -> Router<App> {
    let whole = uploads::routes::max_request(max_upload);
    Router::new()
        .route(UPLOAD_PATH, post(uploads::routes::receive).layer(DefaultBodyLimit::max(whole)))
        .route(&under("playbooks/{name}"), put(playbooks::routes::put))
        .route(&under("playbook-content/{org}/{sha256}"), get(playbooks::routes::content))
}

/// Routes of load balancers and supervisors, of people who are about to log in, and of whoever
/// generates a client.
fn probes() -> Router<App> {
    Router::new()
        .route(&under("openapi.json"), get(openapi::routes::public))
        .route("/internal/openapi.json", get(openapi::routes::internal))
        .route(&under("identity/providers"), get(auth::providers::list))
        .route("/health/live", get(health::live))
        .route("/health/ready", get(health::ready))
        .route("/api/v1", get(health::root))
        .route("/api/v1/", get(health::root))
}

/// A path below the public base path and its version.
fn under(path: &str) -> String {
    format!("{PUBLIC}v1/{path}")
}

/// What surrounds every route; the last layer is the outermost.
fn surround(router: Router<App>, app: &App) -> Router<App> {
    // Within the ids of requests, which some answers contain.
    let router = if app.settings.http.indented_json {
        router.layer(from_fn(layers::indent))
    } else {
        router
    };
    router
        .layer(from_fn_with_state(app.clone(), layers::admit))
        .layer(from_fn(layers::catch_panic))
        .layer(from_fn_with_state(app.clone(), layers::live))
        .layer(from_fn_with_state(app.clone(), layers::identify))
        .layer(from_fn(layers::measure))
}

async fn unmatched(State(app): State<App>, request: Request) -> Response {
    not_there(&app, request, "no matching operation was found").await
}

async fn wrong_method(State(app): State<App>, request: Request) -> Response {
    not_there(&app, request, "method not allowed").await
}

/// The contract's 404, which it also gives for a wrong method, `HEAD` among them; under the public path
/// only to those who have said who they are. A body that is too large comes before all of that.
async fn not_there(app: &App, request: Request, message: &str) -> Response {
    if layers::announces_too_much(app, &request) {
        return Problem::too_large().into_response();
    }
    let path = request.uri().path();
    let (internal, public) = (is_within(path, INTERNAL), is_within(path, PUBLIC));
    if public {
        let (mut parts, _) = request.into_parts();
        if let Err(problem) = OrgCaller::from_request_parts(&mut parts, app).await {
            return problem.into_response();
        }
    }
    let message = if internal || public { message } else { "Not Found" };
    Problem::Contract(StatusCode::NOT_FOUND, message.to_owned()).into_response()
}
