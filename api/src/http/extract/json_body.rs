//! The JSON body of one of our own routes, with our own answers where it is none.

use axum::{
    body::Body,
    extract::{FromRequest, Request},
    http::StatusCode,
};
use bytes::BytesMut;
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;

use crate::{app::App, http::problem::Problem};

/// The most that such a body may have, in bytes.
const MAX_BODY: usize = 128 * 1024;

/// A decoded body.
#[derive(Clone, Debug)]
pub struct JsonBody<T>(
    /// What it says.
    pub T,
);

impl<T: DeserializeOwned> FromRequest<App> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &App) -> Result<Self, Problem> {
        let body = read(request.into_body()).await?;
        let value = serde_json::from_slice(&body).map_err(|error| {
            let message = format!("the body is not as expected: {error}");
            Problem::ours(StatusCode::BAD_REQUEST, "invalid_body", message)
        })?;
        Ok(Self(value))
    }
}

async fn read(body: Body) -> Result<BytesMut, Problem> {
    let mut whole = BytesMut::new();
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| {
            let message = "the body broke off before its end; send the request again";
            Problem::ours(StatusCode::BAD_REQUEST, "body_incomplete", message)
        })?;
        if whole.len() + piece.len() > MAX_BODY {
            let message = format!("the body has more than {MAX_BODY} bytes, which is the most");
            return Err(Problem::ours(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole)
}
