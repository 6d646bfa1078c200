//! The documents over HTTP, for anybody: generators have no keys, and nothing in there is secret.

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse as _, Response},
};

use super::Document;
use crate::app::App;

/// `GET …/openapi.json`: of what organisations call.
pub async fn public(State(app): State<App>, headers: HeaderMap) -> Response {
    app.documents.public.answer(&headers)
}

/// `GET /internal/openapi.json`: of what services call.
pub async fn internal(State(app): State<App>, headers: HeaderMap) -> Response {
    app.documents.internal.answer(&headers)
}

impl Document {
    /// The document, or 304 for whoever has it.
    fn answer(&self, headers: &HeaderMap) -> Response {
        let cached = [
            (header::ETAG, self.tag.clone()),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        ];
        if self.is_had(headers) {
            return (StatusCode::NOT_MODIFIED, cached).into_response();
        }
        let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        (cached, json, self.body.clone()).into_response()
    }

    fn is_had(&self, headers: &HeaderMap) -> bool {
        let named = headers.get_all(header::IF_NONE_MATCH).iter();
        named.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).any(
            |tag| {
                let tag = tag.trim();
                tag == "*"
                    || tag.strip_prefix("W/").unwrap_or(tag).as_bytes() == self.tag.as_bytes()
            },
        )
    }
}
