//! The body of a contract route, read and checked against its schema, with the contract's answers. An
//! empty one passes, and fails later.

use axum::{
    body::Body,
    http::{HeaderMap, StatusCode, header},
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use serde_json::Value;

use crate::http::{problem::Problem, schema::bodies::ContractBody};

/// A body that has been checked.
pub(super) struct Checked<T> {
    /// What it says, defaults in place; `None`: nothing.
    value: Option<T>,
    /// As it came.
    pub(super) raw: Bytes,
}

impl<T: ContractBody> Checked<T> {
    /// Reads a body of at most `limit` bytes and checks it.
    pub(super) async fn read(
        headers: &HeaderMap,
        body: Body,
        limit: usize,
    ) -> Result<Self, Problem> {
        let raw = read(headers, body, limit).await?;
        Ok(Self { value: validate(headers, &raw)?, raw })
    }

    /// What it says, after everything else has been checked: an empty body only fails here.
    pub(super) fn value(self) -> Result<T, Problem> {
        self.value.ok_or(Problem::Empty(StatusCode::BAD_REQUEST))
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
    let schema = T::schema();
    schema.apply(&mut value).and_then(|()| T::check(&value)).map_err(|violation| {
        Problem::bad_request(violation.message_against(schema.reference().as_deref()))
    })?;
    serde_json::from_value(value).map(Some).map_err(undecodable)
}

#[expect(clippy::needless_pass_by_value, reason = "as map_err gives it")]
fn undecodable(error: serde_json::Error) -> Problem {
    Problem::bad_request(format!(
        "request body has an error: failed to decode request body: {error}"
    ))
}
