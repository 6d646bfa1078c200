//! JSON answers as existing clients know them: `application/json`, `&`, `<` and `>` escaped, a line
//! end at the end.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::problem::Problem;

/// A JSON answer with its status.
#[derive(Clone, Debug)]
pub struct JsonReply<T>(
    /// The status.
    pub StatusCode,
    /// The body.
    pub T,
);

impl<T: Serialize> IntoResponse for JsonReply<T> {
    fn into_response(self) -> Response {
        match bytes(&self.1) {
            Ok(body) => from_bytes(self.0, body),
            Err(error) => Problem::internal("an answer cannot be written", &error).into_response(),
        }
    }
}

/// The body of an answer, as it goes over the wire.
///
/// # Errors
/// When the value has no JSON form (a map with keys that are not text).
pub fn bytes<T: Serialize>(value: &T) -> serde_json::Result<Vec<u8>> {
    let plain = serde_json::to_string(value)?;
    let mut body = Vec::with_capacity(plain.len() + 1);
    for character in plain.chars() {
        match character {
            '&' => body.extend_from_slice(b"\\u0026"),
            '<' => body.extend_from_slice(b"\\u003c"),
            '>' => body.extend_from_slice(b"\\u003e"),
            '\u{2028}' => body.extend_from_slice(b"\\u2028"),
            '\u{2029}' => body.extend_from_slice(b"\\u2029"),
            other => body.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    body.push(b'\n');
    Ok(body)
}

/// An answer whose body was made by [`bytes()`], now or earlier.
#[must_use]
pub fn from_bytes(status: StatusCode, body: Vec<u8>) -> Response {
    let json = HeaderValue::from_static("application/json");
    (status, [(header::CONTENT_TYPE, json)], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn what_browsers_might_misread_is_escaped() {
        let body = bytes(&serde_json::json!({ "a": "<&>\u{2028}é" })).unwrap();
        assert_eq!(String::from_utf8(body).unwrap(), "{\"a\":\"\\u003c\\u0026\\u003e\\u2028é\"}\n");
    }
}
