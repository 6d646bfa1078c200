//! Who calls, by whichever way in. Every outcome is counted here, and every failure held against
//! where it came from.

use std::time::Instant;

use axum::http::{StatusCode, request::Parts};
use time::OffsetDateTime;

use super::{IDENTITY_HEADER, authorization};
use crate::{
    app::App,
    auth::{
        caller::{Caller, Way},
        identity::Identity,
        psk::PskError,
        sso::SsoError,
    },
    http::{problem::Problem, source::Source},
};

/// What came of an attempt to be let in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It is known who that is.
    Accepted,
    /// Nobody's key or token: a failed attempt.
    Refused,
    /// It is known who that is, and nothing is open to them.
    Forbidden,
    /// Nobody can tell just now.
    Unavailable,
}

/// Counts an attempt, and holds it against its source if it failed.
pub fn note(app: &App, source: Option<Source>, way: Way, outcome: Outcome) {
    let outcome_label = match outcome {
        Outcome::Accepted => "accepted",
        Outcome::Refused => "refused",
        Outcome::Forbidden => "forbidden",
        Outcome::Unavailable => "unavailable",
    };
    metrics::counter!(
        "dispatcher_auth_total", "way" => way.as_str(), "outcome" => outcome_label
    )
    .increment(1);
    if let Some(address) = source.and_then(|source| source.0)
        && outcome == Outcome::Refused
    {
        app.attempts.failed(address, Instant::now());
    }
}

/// Notes that a caller was recognised just now.
fn recognised(app: &App, caller: &Caller, now: OffsetDateTime) {
    if let Some((kind, id)) = caller.noted_as() {
        app.last_auth.note(kind, id, now);
    }
}

/// The caller of a key or token in `Authorization`: a service, or a user. Answers otherwise are the
/// contract's, except about tokens where there is an SSO server.
pub(super) async fn by_authorization(app: &App, parts: &Parts) -> Result<Caller, Problem> {
    let (header, now) = (authorization(&parts.headers), OffsetDateTime::now_utc());
    let caller = match header.and_then(bearer).filter(|_| app.auth.takes_tokens()) {
        Some(token) => by_token(app, parts, token, now).await,
        None => by_key(app, parts, header, now),
    };
    caller.inspect(|caller| recognised(app, caller, now))
}

/// Whether somebody says who they are by `Authorization`. The identity is what existing clients are
/// known by, whatever else their gateway passes on; that of a peer which is not trusted has been
/// dropped.
pub(super) fn says_by_authorization(parts: &Parts) -> bool {
    authorization(&parts.headers).is_some() && !parts.headers.contains_key(IDENTITY_HEADER)
}

/// The caller that a trusted gateway names.
pub(super) fn by_identity(app: &App, parts: &Parts) -> Result<Caller, Problem> {
    let principal = identity(parts)?.into_principal();
    let outcome = if principal.is_ok() { Outcome::Accepted } else { Outcome::Forbidden };
    note(app, None, Way::Identity, outcome);
    let principal = principal.map_err(|text| Problem::Plain(StatusCode::FORBIDDEN, text))?;
    Ok(Caller { principal, way: Way::Identity, name: None, key_id: None, expires_at: None })
}

/// Whoever a trusted gateway names, of whichever kind.
pub(super) fn identity_of_any_kind(app: &App, parts: &Parts) -> Result<Identity, Problem> {
    let identity = identity(parts)?;
    note(app, None, Way::Identity, Outcome::Accepted);
    Ok(identity)
}

fn identity(parts: &Parts) -> Result<Identity, Problem> {
    let header = parts.headers.get(IDENTITY_HEADER).map(|value| value.as_bytes());
    Identity::decode(header)
        .map_err(|reason| Problem::Plain(StatusCode::BAD_REQUEST, format!("Bad Request: {reason}")))
}

fn by_key(
    app: &App,
    parts: &Parts,
    header: Option<&str>,
    now: OffsetDateTime,
) -> Result<Caller, Problem> {
    let found = app.auth.service(header, now);
    let outcome = match &found {
        Ok(_) => Some(Outcome::Accepted),
        Err(PskError::Missing) => None,
        Err(PskError::Malformed | PskError::Unknown) => Some(Outcome::Refused),
        Err(PskError::Stale) => Some(Outcome::Unavailable),
    };
    if let Some(outcome) = outcome {
        note(app, source(parts), Way::Psk, outcome);
    }
    found.map_err(|error| {
        let (status, message) = match error {
            PskError::Missing => (StatusCode::UNAUTHORIZED, "Unauthorized"),
            PskError::Malformed => {
                (StatusCode::UNAUTHORIZED, "Unsupported authentication key format")
            }
            PskError::Unknown => (StatusCode::FORBIDDEN, "Forbidden"),
            PskError::Stale => {
                return stale("the keys of services have not been confirmed for too long");
            }
        };
        Problem::Contract(status, message.to_owned())
    })
}

async fn by_token(
    app: &App,
    parts: &Parts,
    token: &str,
    now: OffsetDateTime,
) -> Result<Caller, Problem> {
    if token.starts_with("dwk_") || token.starts_with("drt_") {
        note(app, source(parts), Way::WorkerKey, Outcome::Refused);
        let message = "keys and registration tokens of workers count on the routes of workers \
                       only; use a service's key or a token of the SSO server";
        return Err(Problem::Token("worker_key_elsewhere", message.to_owned()));
    }
    let found = app.auth.user(token, now).await;
    let outcome = match &found {
        Ok(_) => Outcome::Accepted,
        Err(SsoError::NoOrganization(_) | SsoError::NoRole(_)) => Outcome::Forbidden,
        Err(SsoError::Stale) => Outcome::Unavailable,
        Err(_) => Outcome::Refused,
    };
    note(app, source(parts), Way::Bearer, outcome);
    found.map_err(|error| {
        let text = error.to_string();
        match error {
            SsoError::Stale => stale(&text),
            SsoError::NoOrganization(_) => {
                Problem::ours(StatusCode::FORBIDDEN, "no_organization", text)
            }
            SsoError::NoRole(_) => Problem::ours(StatusCode::FORBIDDEN, "no_role", text),
            SsoError::Expired => Problem::Token("token_expired", text),
            _ => Problem::Token("token_invalid", text),
        }
    })
}

fn stale(why: &str) -> Problem {
    let message =
        format!("{why}, so that nobody can tell whether this one still counts; try again");
    Problem::ours(StatusCode::SERVICE_UNAVAILABLE, "auth_stale", message)
}

/// The token of a bearer, if the header has exactly the scheme and a token.
fn bearer(header: &str) -> Option<&str> {
    let mut words = header.split_ascii_whitespace();
    let scheme = words.next()?;
    let token = words.next()?;
    (scheme.eq_ignore_ascii_case("bearer") && words.next().is_none()).then_some(token)
}

/// Where a request comes from.
pub(super) fn source(parts: &Parts) -> Option<Source> {
    parts.extensions.get().copied()
}
