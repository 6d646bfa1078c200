//! Errors on the wire.
//!
//! Contract routes answer `{"message": …}` exactly as existing clients know it; our own routes
//! answer `{"message","error_code","request_id"}`. A failure inside is logged once, here, and leaves
//! as a bare 500 or 503: its text is for the log, not for the caller.

use std::time::Duration;

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::json::JsonReply;
use crate::{request, storage::StorageError, store::StoreError};

/// The id of the request that is being answered; empty outside of one.
#[must_use]
pub fn request_id() -> String {
    request::ids().id.clone()
}

/// An error on its way to a caller.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Problem {
    /// A contract route's error: exactly `{"message": …}`.
    Contract(StatusCode, String),
    /// Our own routes' error: status, stable name, text.
    Ours(StatusCode, &'static str, String),
    /// The identity header's errors: plain text.
    Plain(StatusCode, String),
    /// A contract route's status without a body.
    Empty(StatusCode),
    /// 401 for a token that does not count: stable name, text.
    Token(&'static str, String),
    /// 429: too many failed attempts from where the caller is; how long to wait.
    Attempts(Duration),
}

impl Problem {
    /// 400 on a contract route.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::Contract(StatusCode::BAD_REQUEST, message.into())
    }

    /// 413: the body is larger than ordinary requests may carry.
    #[must_use]
    pub fn too_large() -> Self {
        Self::Contract(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large".to_owned())
    }

    /// An error on one of our own routes.
    pub fn ours(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self::Ours(status, code, message.into())
    }

    /// 404 on one of our own routes: says what was looked for.
    pub fn not_found(code: &'static str, message: impl Into<String>) -> Self {
        Self::Ours(StatusCode::NOT_FOUND, code, message.into())
    }

    /// 404: the organisation has no such run, or none that the caller may look at.
    #[must_use]
    pub fn no_run(id: &str) -> Self {
        Self::not_found("run_not_found", format!("there is no run {id:?} in this organisation"))
    }

    /// Logs a failure inside and hides it from the caller.
    pub fn internal(context: &str, error: &dyn std::fmt::Display) -> Self {
        tracing::error!(request_id = request_id(), %error, "{context}");
        Self::Contract(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error".to_owned())
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let hidden = Self::internal("a request failed in the database", &error);
        match error {
            StoreError::Failed(_) => hidden,
            StoreError::Unavailable(_) => Self::Ours(
                StatusCode::SERVICE_UNAVAILABLE,
                "store_unavailable",
                "the database is unavailable; try again".to_owned(),
            ),
        }
    }
}

impl From<StorageError> for Problem {
    fn from(error: StorageError) -> Self {
        tracing::error!(request_id = request_id(), %error, "a request failed in the object store");
        let message = "the object store is unavailable; try again";
        Self::ours(StatusCode::SERVICE_UNAVAILABLE, "storage_unavailable", message)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        match self {
            Self::Contract(status, message) => {
                JsonReply(status, json!({ "message": message })).into_response()
            }
            Self::Ours(status, code, message) => {
                let id = request_id();
                let body = json!({ "message": message, "error_code": code, "request_id": id });
                let mut response = JsonReply(status, body).into_response();
                if status == StatusCode::SERVICE_UNAVAILABLE {
                    let value = HeaderValue::from_static("1");
                    response.headers_mut().insert(header::RETRY_AFTER, value);
                }
                response
            }
            Self::Plain(status, text) => {
                let nosniff = [("x-content-type-options", "nosniff")];
                (status, nosniff, format!("{text}\n")).into_response()
            }
            Self::Empty(status) => status.into_response(),
            Self::Token(code, message) => {
                let challenge = challenge(&message);
                let mut response =
                    Self::Ours(StatusCode::UNAUTHORIZED, code, message).into_response();
                response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
                response
            }
            Self::Attempts(wait) => {
                let seconds = wait.as_secs() + 1;
                let message = format!(
                    "too many failed attempts to be let in from this address; try again in \
                     {seconds} s, with a key or token that is known to be good"
                );
                let status = StatusCode::TOO_MANY_REQUESTS;
                let mut response = Self::Ours(status, "too_many_attempts", message).into_response();
                response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
                response
            }
        }
    }
}

/// What a client library reads out of a refused token.
fn challenge(message: &str) -> HeaderValue {
    let plain = |c: char| c == ' ' || c.is_ascii_graphic() && c != '"' && c != '\\';
    let text: String = message.chars().map(|c| if plain(c) { c } else { '\'' }).collect();
    let challenge = format!("Bearer error=\"invalid_token\", error_description=\"{text}\"");
    let bare = HeaderValue::from_static("Bearer error=\"invalid_token\"");
    HeaderValue::from_str(&challenge).unwrap_or(bare)
}
