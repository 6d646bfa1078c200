//! Keys of services over HTTP, for admins.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode, Uri, header},
};
use dispatcher_wire::{
    admin::{Confirmations, KeyView, MadeKey, NewKey, RevokedKey, Rotation},
    view::Page,
};
use secrecy::ExposeSecret as _;
use time::OffsetDateTime;

use super::{KeyError, Keys, confirm, create::Asking, model::KeyQuery};
use crate::{
    app::App,
    audit::model::Actor,
    http::{
        extract::{Admin, JsonBody, Segments},
        json::JsonReply,
        links,
        problem::{Problem, request_id},
        query::RawQuery,
    },
};

/// Answers with a secret are kept nowhere.
type Unkept<T> = ([(HeaderName, HeaderValue); 1], JsonReply<T>);

/// `POST …/keys`: makes a key; the only answer that shows it.
pub async fn create(
    State(app): State<App>,
    admin: Admin,
    JsonBody(wanted): JsonBody<NewKey>,
) -> Result<Unkept<MadeKey>, Problem> {
    let made = keys(&app).create(&asking(admin), &wanted).await?;
    app.auth.feed().keys_changed();
    Ok(unkept(made))
}

/// `POST …/keys/{id}/rotate`: makes a successor, and ends the key after an overlap.
pub async fn rotate(
    State(app): State<App>,
    admin: Admin,
    Segments(id): Segments<String>,
    JsonBody(rotation): JsonBody<Rotation>,
) -> Result<Unkept<MadeKey>, Problem> {
    let made = keys(&app).rotate(&asking(admin), &id, &rotation).await?;
    app.auth.feed().keys_changed();
    Ok(unkept(made))
}

/// `DELETE …/keys/{id}`: revokes a key.
pub async fn revoke(
    State(app): State<App>,
    admin: Admin,
    Segments(id): Segments<String>,
) -> Result<JsonReply<RevokedKey>, Problem> {
    let revoked = keys(&app).revoke(&asking(admin), &id).await?;
    app.auth.feed().keys_changed();
    Ok(JsonReply(StatusCode::OK, revoked))
}

/// `GET …/keys?service=&live=`: keys without their secrets.
pub async fn list(
    State(app): State<App>,
    admin: Admin,
    uri: Uri,
) -> Result<JsonReply<Page<KeyView>>, Problem> {
    let query = RawQuery::parse(uri.query().unwrap_or_default());
    let params = query
        .page()
        .map_err(|message| Problem::ours(StatusCode::BAD_REQUEST, "invalid_page", message))?;
    let wanted = KeyQuery {
        scope: admin.principal.org,
        service: query.values("service").find(|name| !name.is_empty()).map(str::to_owned),
        live_at: only_live(&query)?.then(OffsetDateTime::now_utc),
        limit: params.limit,
        offset: params.offset,
    };
    let found = keys(&app).list(&wanted).await?;
    let page = links::page(uri.path(), &query, params, found.rows, found.total);
    Ok(JsonReply(StatusCode::OK, page))
}

/// `GET …/auth/confirmations?version=`: how many processes have that version of the auth state, or a
/// later one, in force.
pub async fn confirmations(
    State(app): State<App>,
    _: Admin,
    uri: Uri,
) -> Result<JsonReply<Confirmations>, Problem> {
    let query = RawQuery::parse(uri.query().unwrap_or_default());
    let mut given = query.values("version");
    let version = given.next().and_then(|text| text.parse().ok()).ok_or_else(|| {
        let message = "version is missing or no number; it is the auth_version of an answer";
        Problem::ours(StatusCode::BAD_REQUEST, "invalid_version", message)
    })?;
    let found = confirm::of(app.stores.instances.as_ref(), version).await?;
    Ok(JsonReply(StatusCode::OK, found))
}

fn only_live(query: &RawQuery) -> Result<bool, Problem> {
    match query.values("live").collect::<Vec<_>>().as_slice() {
        [] | ["" | "false"] => Ok(false),
        ["true"] => Ok(true),
        given => {
            let given = given.join(", ");
            let message = format!("live={given:?} is not acceptable; allowed: true, false");
            Err(Problem::ours(StatusCode::BAD_REQUEST, "invalid_live", message))
        }
    }
}

fn keys(app: &App) -> Keys {
    let usable = |key: &&crate::config::secrets::ServiceKey| !key.key.expose_secret().is_empty();
    let services = app.settings.secrets.services.iter().filter(usable);
    Keys {
        store: Arc::clone(&app.stores.keys),
        keyring: Arc::clone(&app.keyring),
        in_settings: services.map(|key| key.service.clone()).collect(),
    }
}

fn asking(admin: Admin) -> Asking {
    let by = Actor::of(&admin.principal, request_id());
    Asking { by, scope: admin.principal.org, org_id: admin.org_id }
}

fn unkept(made: MadeKey) -> Unkept<MadeKey> {
    let headers = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (headers, JsonReply(StatusCode::CREATED, made))
}

impl From<KeyError> for Problem {
    fn from(error: KeyError) -> Self {
        let text = error.to_string();
        match error {
            KeyError::Invalid(_) => Self::ours(StatusCode::BAD_REQUEST, "key_invalid", text),
            KeyError::OtherOrg(_) => Self::ours(StatusCode::FORBIDDEN, "org_forbidden", text),
            KeyError::Unknown(_) => Self::not_found("key_not_found", text),
            KeyError::FromSettings(..) => {
                Self::ours(StatusCode::CONFLICT, "key_from_settings", text)
            }
            KeyError::IdTaken(_) => Self::ours(StatusCode::CONFLICT, "key_exists", text),
            KeyError::TooMany(..) => Self::ours(StatusCode::CONFLICT, "too_many_keys", text),
            KeyError::NotLive(_) => Self::ours(StatusCode::CONFLICT, "key_not_live", text),
            KeyError::NoRandomness => Self::internal("a key was not made", &text),
            KeyError::Store(error) => error.into(),
        }
    }
}
