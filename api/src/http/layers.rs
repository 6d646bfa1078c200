//! What surrounds every handler, from outside: metrics, request ids and the access log, panics,
//! host names, the identity header. And what surrounds groups: time and size limits.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration, time::Instant};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, Method, StatusCode, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt as _;
use hyper::body::Body as _;
use tracing::Instrument as _;
use uuid::Uuid;

use super::{
    extract::IDENTITY_HEADER, json, peer::Peer, problem::Problem, request_id, source::Source,
};
use crate::{
    app::App,
    request::{self, Ids},
};

/// Counts and times requests under the pattern of their route.
pub async fn measure(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = known_method(request.method());
    let handler = pattern(&request);
    let response = next.run(request).await;
    let status = format!("{}xx", response.status().as_u16() / 100);
    let seconds = started.elapsed().as_secs_f64();
    metrics::histogram!(
        super::metrics::REQUEST_SECONDS,
        "method" => method, "handler" => handler.clone()
    )
    .record(seconds);
    metrics::counter!(
        "echo_http_requests_total",
        "status" => status, "method" => method, "handler" => handler
    )
    .increment(1);
    response
}

/// Callers may make methods up; metrics must not grow with them.
fn known_method(method: &Method) -> &'static str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or("OTHER")
}

fn pattern(request: &Request) -> String {
    let matched = request.extensions().get::<MatchedPath>();
    matched.map_or_else(|| "/not-found".to_owned(), |path| path.as_str().to_owned())
}

/// Gives the request its ids, and notes it in the access log: never its query, which may carry
/// tokens.
pub async fn identify(State(app): State<App>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let (id, internal) = (app.request_ids.of(request.headers()), Uuid::new_v4().to_string());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let peer = request.extensions().get::<Peer>().copied();
    let span = tracing::info_span!("request", request_id = id);
    let answering = next.run(request).instrument(span);
    let ids = Arc::new(Ids { id: id.clone(), internal: internal.clone() });
    let mut response = request::within(ids, answering).await;
    tracing::info!(
        request_id = id,
        internal_request_id = internal,
        %method,
        path,
        peer = peer.map(|peer| peer.to_string()),
        status = response.status().as_u16(),
        seconds = started.elapsed().as_secs_f64(),
        "request"
    );
    for (name, id) in [(request_id::REQUEST_ID, id), (request_id::INTERNAL_REQUEST_ID, internal)] {
        if let Some(value) = request_id::header(&id) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// Counts requests for a process that is to begin anew after so many, where probes do not count; and
/// tells clients, while draining, not to use the connection again.
pub async fn live(State(app): State<App>, request: Request, next: Next) -> Response {
    let is_probe = is_probe(request.uri().path());
    let mut response = next.run(request).await;
    if !is_probe {
        app.lifecycle.served_one();
    }
    if app.lifecycle.is_draining() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Turns a panic into a 500.
pub async fn catch_panic(request: Request, next: Next) -> Response {
    let caught = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    caught.unwrap_or_else(|_| {
        Problem::internal("a handler panicked", &"see the panic above").into_response()
    })
}

/// Makes JSON answers ready to be read by people, where that is wanted. Answers that are streamed are
/// left alone, and so are those without a body.
pub async fn indent(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let kind = response.headers().get(header::CONTENT_TYPE);
    let is_json = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let size = response.body().size_hint().exact().and_then(|size| usize::try_from(size).ok());
    let Some(size) = size.filter(|size| is_json && *size > 0) else { return response };
    let (mut parts, body) = response.into_parts();
    match axum::body::to_bytes(body, size).await {
        Ok(body) => {
            parts.headers.remove(header::CONTENT_LENGTH);
            Response::from_parts(parts, json::indented(&body).into())
        }
        Err(error) => Problem::internal("an answer cannot be indented", &error).into_response(),
    }
}

/// What is decided before anything else: whether the name it was sent to is answered, whether it may
/// speak for others, and whether its source has failed too often lately.
///
/// One layer for all of it, since each is memory that every waiting request holds.
pub async fn admit(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let admitted = answered_name(&app, &request).and_then(|()| {
        distrust(&app, &mut request);
        limit_attempts(&app, &mut request)
    });
    match admitted {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Standalone answers only to loopback names, so that no web page can reach it by a name that it
/// has pointed at this machine.
fn answered_name(app: &App, request: &Request) -> Result<(), Problem> {
    if !app.settings.http.loopback_hosts_only || names_loopback(request) {
        return Ok(());
    }
    let message = "this service answers only to loopback names: localhost, 127.0.0.1, [::1]";
    Err(Problem::ours(StatusCode::MISDIRECTED_REQUEST, "host_not_loopback", message))
}

fn names_loopback(request: &Request) -> bool {
    let header = request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
    let from_header = header.and_then(|value| value.parse::<Authority>().ok());
    let authority = request.uri().authority().cloned().or(from_header);
    authority.is_some_and(|authority| is_loopback(authority.host()))
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// Drops the identity header of everybody who may not speak for others, before anyone reads it.
fn distrust(app: &App, request: &mut Request) {
    let peer = request.extensions().get::<Peer>();
    let trusted = peer.is_some_and(|peer| peer.is_trusted(&app.settings.http.identity_from));
    if !trusted {
        request.headers_mut().remove(IDENTITY_HEADER);
    }
}

/// Notes where a request comes from, and refuses it where too many attempts to be let in have
/// failed lately, before anything is looked at. Probes carry no keys and are always answered.
fn limit_attempts(app: &App, request: &mut Request) -> Result<(), Problem> {
    let peer = request.extensions().get::<Peer>().copied();
    let source = Source::of(peer, request.headers(), &app.settings.http.forwarded_from);
    let wait = source.0.and_then(|address| app.attempts.wait(address, Instant::now()));
    if let Some(wait) = wait.filter(|_| !is_probe(request.uri().path())) {
        return Err(Problem::Attempts(wait));
    }
    request.extensions_mut().insert(source);
    Ok(())
}

fn is_probe(path: &str) -> bool {
    path.starts_with("/health/") || ["/api/v1", "/api/v1/"].contains(&path)
}

/// Refuses bodies that announce more than ordinary requests may carry.
pub async fn limit_body(State(app): State<App>, request: Request, next: Next) -> Response {
    if announces_too_much(&app, &request) {
        return Problem::too_large().into_response();
    }
    next.run(request).await
}

/// Whether a body says of itself that it is larger than those of ordinary requests.
pub fn announces_too_much(app: &App, request: &Request) -> bool {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let most = u64::try_from(app.settings.http.max_body).unwrap_or(u64::MAX);
    length.is_some_and(|length| length > most)
}

/// Ends requests that take longer than ordinary ones may.
pub async fn limit_time(State(app): State<App>, request: Request, next: Next) -> Response {
    in_time(app.settings.http.request_timeout, request, next).await
}

/// Ends requests that take longer than transfers may.
pub async fn limit_transfer_time(State(app): State<App>, request: Request, next: Next) -> Response {
    in_time(app.settings.http.transfer_timeout, request, next).await
}

async fn in_time(at_most: Duration, request: Request, next: Next) -> Response {
    tokio::time::timeout(at_most, next.run(request)).await.unwrap_or_else(|_| {
        let message = format!("no answer within {} s; try again", at_most.as_secs());
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Problem::ours(status, "request_timeout", message).into_response()
    })
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, middleware::from_fn, routing::get};
    use tower::ServiceExt as _;

    use super::*;

    async fn broken() -> StatusCode {
        panic!("on purpose")
    }

    #[tokio::test]
    async fn a_panic_is_a_500_in_the_contracts_form() {
        let router = Router::new().route("/", get(broken)).layer(from_fn(catch_panic));
        let response = router.oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = axum::body::to_bytes(response.into_body(), 1024).await.unwrap();
        assert_eq!(body, "{\"message\":\"Internal Server Error\"}\n");
    }

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        for own in ["localhost", "LOCALHOST", "127.0.0.1", "127.8.8.8", "[::1]"] {
            assert!(is_loopback(own), "{own}");
        }
        for other in ["example.com", "localhost.example.com", "10.0.0.1", "0.0.0.0", "[::2]", ""] {
            assert!(!is_loopback(other), "{other}");
        }
    }
}
