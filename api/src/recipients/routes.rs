//! Recipients over HTTP: their status for services, lists, tokens and labels for organisations,
//! registration and facts for workers.

use std::collections::BTreeMap;

use axum::{
    Extension,
    extract::State,
    http::{StatusCode, Uri},
};
use dispatcher_wire::{
    dispatch::{RecipientStatus, RecipientWithOrg},
    registration::{Facts, RegisterReply, RegisterRequest, TokenReply, TokenRequest},
    view::{Page, RecipientDetailView, RecipientView},
};
use serde_json::json;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    facts, labels, list,
    registration::{self, RegistrationError},
    status::{self, StatusError},
};
use crate::{
    app::App,
    audit::model::{Action, Actor, AuditEntry},
    auth::{caller::Way, principal::Role},
    http::{
        extract::{
            JsonBody, OrgCaller, OrgOperator, Outcome, PskJson, Registrant, Segments, Worker, note,
        },
        json::JsonReply,
        links,
        problem::{Problem, request_id},
        query::RawQuery,
        source::Source,
    },
};

/// `POST /internal/v2/recipients/status`: whether recipients are connected.
pub async fn status(
    State(app): State<App>,
    body: PskJson<Vec<RecipientWithOrg>>,
) -> Result<JsonReply<Vec<RecipientStatus>>, Problem> {
    let store = app.stores.recipients.as_ref();
    let now = OffsetDateTime::now_utc();
    let known =
        status::status(store, app.connector.as_deref(), &body.service, body.value, now).await;
    known.map(|known| JsonReply(StatusCode::OK, known)).map_err(|error| match error {
        StatusError::Store(error) => error.into(),
        StatusError::Connector(..) => {
            // Logged as any failure; the contract's answer has no body.
            drop(Problem::internal("the connector failed", &error));
            Problem::Empty(StatusCode::INTERNAL_SERVER_ERROR)
        }
    })
}

/// `GET …/recipients`: the organisation's recipients, with `filter[labels][name]=value` only those
/// that have these labels.
pub async fn list(
    State(app): State<App>,
    caller: OrgCaller,
    uri: Uri,
) -> Result<JsonReply<Page<RecipientView>>, Problem> {
    let query = RawQuery::parse(uri.query().unwrap_or_default());
    let page = query
        .page()
        .map_err(|message| Problem::ours(StatusCode::BAD_REQUEST, "invalid_page", message))?;
    let wanted = query.nested("filter[labels]");
    labels::check(&wanted).map_err(RegistrationError::from)?;
    let store = app.stores.recipients.as_ref();
    let now = OffsetDateTime::now_utc();
    let found = list::list(store, &caller.org_id, &wanted, page.limit, page.offset, now).await?;
    let body = links::page(uri.path(), &query, page, found.rows, found.total);
    Ok(JsonReply(StatusCode::OK, body))
}

/// `GET …/recipients/{id}`: one recipient with what its worker says of its host.
pub async fn show(
    State(app): State<App>,
    caller: OrgCaller,
    Segments(id): Segments<String>,
) -> Result<JsonReply<RecipientDetailView>, Problem> {
    let found = app.stores.registrations.get(&caller.org_id, recipient(&id)?).await?;
    let view = list::detail(found.ok_or_else(|| unknown(&id))?, OffsetDateTime::now_utc());
    Ok(JsonReply(StatusCode::OK, view))
}

/// `DELETE …/recipients/{id}`: its worker's key is gone; its runs stay.
pub async fn remove(
    State(app): State<App>,
    OrgOperator(caller): OrgOperator,
    Segments(id): Segments<String>,
) -> Result<StatusCode, Problem> {
    if caller.principal.role < Role::Admin {
        let message =
            "removing a recipient needs the role admin; ask for it, or use another account";
        return Err(Problem::ours(StatusCode::FORBIDDEN, "role_required", message));
    }
    let (id, now) = (recipient(&id)?, OffsetDateTime::now_utc().truncate_to_microsecond());
    let audit = did(&caller, Action::RecipientRemove, id, now);
    let removed = app.stores.registrations.remove(&caller.org_id, id, now, Some(&audit)).await?;
    if removed { Ok(StatusCode::NO_CONTENT) } else { Err(unknown(&id.to_string())) }
}

/// `PUT …/recipients/{id}/labels`: replaces its labels.
pub async fn set_labels(
    State(app): State<App>,
    OrgOperator(caller): OrgOperator,
    Segments(id): Segments<String>,
    JsonBody(wanted): JsonBody<BTreeMap<String, String>>,
) -> Result<JsonReply<RecipientDetailView>, Problem> {
    labels::check(&wanted).map_err(RegistrationError::from)?;
    let (store, recipient) = (&app.stores.registrations, recipient(&id)?);
    let now = OffsetDateTime::now_utc().truncate_to_microsecond();
    let audit = did(&caller, Action::RecipientLabel, recipient, now).with(json!(wanted));
    let found = if store.set_labels(&caller.org_id, recipient, &wanted, Some(&audit)).await? {
        store.get(&caller.org_id, recipient).await?
    } else {
        None
    };
    let view = list::detail(found.ok_or_else(|| unknown(&id))?, OffsetDateTime::now_utc());
    Ok(JsonReply(StatusCode::OK, view))
}

/// `POST …/recipients/registrations`: makes a one-time token with which a worker may register.
pub async fn make_token(
    State(app): State<App>,
    OrgOperator(caller): OrgOperator,
    JsonBody(request): JsonBody<TokenRequest>,
) -> Result<JsonReply<TokenReply>, Problem> {
    let store = app.stores.registrations.as_ref();
    let now = OffsetDateTime::now_utc().truncate_to_microsecond();
    let by = (&caller.principal, caller.org_id.as_str());
    let actor = Actor::of(&caller.principal, request_id());
    let made = registration::make_token(store, &app.keyring, by, &actor, request, now).await?;
    Ok(JsonReply(StatusCode::CREATED, made))
}

/// `POST …/recipients/register`: registers the worker that presents a token.
pub async fn register(
    State(app): State<App>,
    from: Option<Extension<Source>>,
    Registrant(token): Registrant,
    JsonBody(request): JsonBody<RegisterRequest>,
) -> Result<JsonReply<RegisterReply>, Problem> {
    let store = app.stores.registrations.as_ref();
    let now = OffsetDateTime::now_utc().truncate_to_microsecond();
    let (keyring, id) = (&app.keyring, request_id());
    let reply = registration::register(store, keyring, &token, request, id, now).await;
    let unknown = matches!(reply, Err(RegistrationError::UnknownToken));
    let outcome = if unknown { Outcome::Refused } else { Outcome::Accepted };
    note(&app, from.map(|Extension(from)| from), Way::RegistrationToken, outcome);
    let reply = reply?;
    tracing::info!(recipient = %reply.recipient, org = reply.org_id, "a worker is registered");
    Ok(JsonReply(StatusCode::OK, reply))
}

/// `POST …/execution/facts`: what a worker says of its host.
pub async fn set_facts(
    State(app): State<App>,
    Worker(worker): Worker,
    JsonBody(said): JsonBody<Facts>,
) -> Result<StatusCode, Problem> {
    facts::check(&said).map_err(RegistrationError::from)?;
    let now = OffsetDateTime::now_utc().truncate_to_microsecond();
    app.stores.registrations.set_facts(worker.recipient, &said, now).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn did(caller: &OrgCaller, action: Action, id: Uuid, now: OffsetDateTime) -> AuditEntry {
    let actor = Actor::of(&caller.principal, request_id());
    actor.did(action, id.to_string(), Some(&caller.org_id), now)
}

fn recipient(id: &str) -> Result<Uuid, Problem> {
    Uuid::try_parse(id).map_err(|_| unknown(id))
}

fn unknown(id: &str) -> Problem {
    Problem::not_found("recipient_not_found", format!("no recipient has the id {id}"))
}

impl From<RegistrationError> for Problem {
    fn from(error: RegistrationError) -> Self {
        use RegistrationError as Error;
        let text = error.to_string();
        let (status, code) = match error {
            Error::Store(error) => return error.into(),
            Error::NoRandomness => return Self::internal("no token can be made", &text),
            Error::Name => (StatusCode::BAD_REQUEST, "invalid_name"),
            Error::Labels(_) => (StatusCode::BAD_REQUEST, "invalid_labels"),
            Error::Facts(_) => (StatusCode::BAD_REQUEST, "invalid_facts"),
            Error::ExpiresIn(_) => (StatusCode::BAD_REQUEST, "invalid_expires_in"),
            Error::Recipient(_) => (StatusCode::BAD_REQUEST, "invalid_recipient"),
            Error::Key => (StatusCode::BAD_REQUEST, "invalid_key"),
            Error::TooManyTokens => (StatusCode::CONFLICT, "too_many_tokens"),
            Error::AdminNeeded(_) => (StatusCode::FORBIDDEN, "role_required"),
            Error::NotFree(_) => (StatusCode::CONFLICT, "recipient_not_free"),
            Error::UnknownToken => (StatusCode::UNAUTHORIZED, "token_unknown"),
            Error::ExpiredToken(_) => (StatusCode::UNAUTHORIZED, "token_expired"),
            Error::UsedToken => (StatusCode::CONFLICT, "token_used"),
            Error::OtherRecipient(_) => (StatusCode::FORBIDDEN, "token_other_recipient"),
            Error::Taken(_) => (StatusCode::CONFLICT, "recipient_registered"),
        };
        Self::ours(status, code, text)
    }
}
