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

/// The same JSON with a line for every member, two blanks further in for each level. Nothing inside
/// of texts is touched.
#[must_use]
pub fn indented(json: &[u8]) -> Vec<u8> {
    let (mut out, mut depth, mut in_text, mut escaped) = (Vec::new(), 0_usize, false, false);
    let mut bytes = json.iter().copied().filter(|byte| !b"\n\r\t".contains(byte)).peekable();
    let line = |out: &mut Vec<u8>, depth: usize| {
        out.push(b'\n');
        out.resize(out.len() + 2 * depth, b' ');
    };
    while let Some(byte) = bytes.next() {
        let closes = matches!(byte, b'}' | b']') && !in_text;
        if closes {
            depth = depth.saturating_sub(1);
            if !matches!(out.last(), Some(b'{' | b'[')) {
                line(&mut out, depth);
            }
        }
        if in_text || byte != b' ' {
            out.push(byte);
        }
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth += 1;
                if !matches!(bytes.peek(), Some(b'}' | b']')) {
                    line(&mut out, depth);
                }
            }
            b',' if !in_text => line(&mut out, depth),
            b':' if !in_text => out.push(b' '),
            _ => {}
        }
    }
    out.push(b'\n');
    out
}

#[cfg(test)]
mod tests {
    use super::{bytes, indented};

    #[test]
    fn indented_json_is_the_same_json() {
        let value = serde_json::json!({
            "a": [1, {}, [], [[]], {"b": null}], "c,:{[": "x \"y\" \\ <&> ]},", "d": -1.5e3,
        });
        let text = String::from_utf8(indented(&bytes(&value).unwrap())).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
        assert!(text.starts_with("{\n  \"a\": [\n    1,\n    {},\n    [],\n"), "{text}");
        assert!(text.contains("\\u003c") && text.ends_with("\n}\n"), "{text}");
        assert_eq!(indented(b"[]\n"), b"[]\n");
        assert_eq!(indented(b"\"a, b\"\n"), b"\"a, b\"\n");
    }

    #[test]
    fn what_browsers_might_misread_is_escaped() {
        let body = bytes(&serde_json::json!({ "a": "<&>\u{2028}é" })).unwrap();
        assert_eq!(String::from_utf8(body).unwrap(), "{\"a\":\"\\u003c\\u0026\\u003e\\u2028é\"}\n");
    }
}
