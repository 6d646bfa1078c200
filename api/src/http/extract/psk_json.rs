//! The body and caller of a contract route, in the contract's order: the body is checked first,
//! the key second, and an empty body only fails after both. What the contract does not know comes
//! where the key does: tokens of users, and roles.

use axum::{
    body::Body,
    extract::{FromRequest, Request},
    http::{HeaderMap, StatusCode, header},
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use serde_json::Value;

use super::{require, ways};
use crate::{
    app::App,
    auth::principal::Principal,
    http::{problem::Problem, schema::bodies::ContractBody},
};

/// Validated body and authenticated caller of a contract route: a service, or a user.
#[derive(Clone, Debug)]
pub struct PskJson<T> {
    /// Who calls.
    pub service: Principal,
    /// The body, defaults in place.
    pub value: T,
    /// The body as it came, for idempotency.
    pub raw: Bytes,
}

impl<T: ContractBody> FromRequest<App> for PskJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let raw = read(&parts.headers, body, app.settings.http.max_body).await?;
        let checked = validate::<T>(&parts.headers, &raw)?;
        let service = ways::by_authorization(app, &parts).await?.principal;
        require(&service, T::LEAST)?;
        let value = checked.ok_or(Problem::Empty(StatusCode::BAD_REQUEST))?;
        Ok(Self { service, value, raw })
    }
}

/// Reads a body of at most `limit` bytes.
async fn read(headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Problem> {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let length = length.and_then(|value| value.parse::<u64>().ok()).unwrap_or_default();
    if usize::try_from(length).map_or(true, |length| length > limit) {
        return Err(Problem::too_large());
    }
    let mut raw = BytesMut::new();
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| unreadable(&error.to_string()))?;
        if raw.len() + piece.len() > limit {
            return Err(unreadable("code=413, message=Request Entity Too Large"));
        }
        raw.extend_from_slice(&piece);
    }
    Ok(raw.freeze())
}

fn unreadable(detail: &str) -> Problem {
    Problem::bad_request(format!("request body has an error: reading failed: {detail}"))
}

/// The body as `T`; `None` for an empty one, which no schema is asked about.
fn validate<T: ContractBody>(headers: &HeaderMap, raw: &[u8]) -> Result<Option<T>, Problem> {
    if raw.is_empty() {
        return Ok(None);
    }
    let content_type = headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes());
    let content_type = String::from_utf8_lossy(content_type.unwrap_or_default());
    if content_type.split(';').next().map(str::trim) != Some("application/json") {
        return Err(Problem::bad_request(format!(
            "request body has an error: header Content-Type has unexpected value {content_type:?}"
        )));
    }
    let mut value: Value = serde_json::from_slice(raw).map_err(undecodable)?;
    T::schema()
        .apply(&mut value)
        .and_then(|()| T::check(&value))
        .map_err(|violation| Problem::bad_request(violation.body_message()))?;
    serde_json::from_value(value).map(Some).map_err(undecodable)
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err gives it")]
fn undecodable(error: serde_json::Error) -> Problem {
    Problem::bad_request(format!(
        "request body has an error: failed to decode request body: {error}"
    ))
}
