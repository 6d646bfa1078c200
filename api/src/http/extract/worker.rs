//! A worker that calls with its own key, which is bound to its recipient, or with a registration
//! token, to get there.

use std::time::Instant;

use axum::{
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
};

use time::OffsetDateTime;
use uuid::Uuid;

use super::{Outcome, authorization, note, ways::source};
use crate::{
    app::App,
    auth::{caller::Way, principal::WorkerPrincipal, worker_key},
    http::problem::Problem,
    recipients::token,
};

/// An authenticated worker.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Worker(
    /// Its recipient and organisation.
    pub WorkerPrincipal,
);

impl FromRequestParts<App> for Worker {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let header = authorization(&parts.headers).unwrap_or_default();
        let (recipient, key) = worker_key::presented(header).ok_or_else(missing)?;
        let worker = worker(app, recipient, key).await?;
        let outcome = if worker.is_some() { Outcome::Accepted } else { Outcome::Refused };
        note(app, source(parts), Way::WorkerKey, outcome);
        if worker.is_some() {
            app.last_auth.note("recipient", &recipient.to_string(), OffsetDateTime::now_utc());
        }
        worker.map(Self).ok_or_else(unknown)
    }
}

/// The worker that has this key, if it is its recipient's.
async fn worker(app: &App, recipient: Uuid, key: &str) -> Result<Option<WorkerPrincipal>, Problem> {
    let at = Instant::now();
    if let Some(worker) = app.known_workers.recognised(recipient, key, &app.keyring, at) {
        return Ok(Some(worker));
    }
    let found = app.worker_lookups.find(recipient).await?;
    let stored = found.as_ref().and_then(|recipient| recipient.key_digest.as_deref());
    let found = found.as_ref().filter(|_| worker_key::matches(&app.keyring, key, stored));
    Ok(found.map(|found| {
        app.known_workers.remember(found, at);
        WorkerPrincipal { recipient, org_id: found.org_id.clone() }
    }))
}

/// Somebody who presents a registration token. What it is worth is decided with the registration.
pub struct Registrant(
    /// The token.
    pub String,
);

impl std::fmt::Debug for Registrant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Registrant(…)")
    }
}

impl FromRequestParts<App> for Registrant {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        let header = authorization(&parts.headers).unwrap_or_default();
        let token = token::presented(header).map(str::to_owned);
        token.map(Self).ok_or_else(|| {
            let message = "a registration token is needed: Authorization: Bearer drt_<secret>; an \
                           operator makes one with `dispatchctl recipients token create`";
            Problem::ours(StatusCode::UNAUTHORIZED, "token_required", message)
        })
    }
}

fn missing() -> Problem {
    let message = "a worker's key is needed: Authorization: Bearer dwk_<recipient>_<secret>";
    Problem::ours(StatusCode::UNAUTHORIZED, "worker_key_required", message)
}

fn unknown() -> Problem {
    let message = "this worker's key is not known; register the recipient again";
    Problem::ours(StatusCode::UNAUTHORIZED, "worker_key_unknown", message)
}
