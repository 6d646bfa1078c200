//! Errors of the dispatcher and of the way to it, told so that people know what to do next.

use dispatcher_wire::view::Problem;
use reqwest::StatusCode;
use serde_json::Value;

use super::{Client, REQUEST_TIMEOUT};
use crate::{connection::Connection, text, trouble::Trouble};

impl Client {
    pub(super) fn refused(&self, status: StatusCode, body: &[u8], request_id: &str) -> Trouble {
        let (message, code, id) = explanation(body);
        let reason = status.canonical_reason().unwrap_or("?");
        let mut what = if message.is_empty() { reason.to_owned() } else { message };
        let id = if id.is_empty() { request_id } else { &id };
        let mut details = vec![format!("{} {reason}", status.as_u16())];
        details.extend((!code.is_empty()).then_some(code));
        details.extend((!id.is_empty()).then(|| format!("request {id}")));
        what = format!("{what} ({})", details.join(", "));
        let trouble = if status == StatusCode::NOT_FOUND {
            Trouble::missing(what)
        } else if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            Trouble::refused(what)
        } else if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            Trouble::connection(format!("{}: {what}", self.connection.url.value))
        } else {
            Trouble::failed(what)
        };
        match self.advice(status) {
            Some(advice) => trouble.hint(advice),
            None => trouble,
        }
    }

    fn advice(&self, status: StatusCode) -> Option<String> {
        let url = &self.connection.url;
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Some(self.as_whom()),
            status if status.is_redirection() => Some(format!(
                "{} (from {}) leads elsewhere; name the right address",
                url.value, url.from
            )),
            status if status.is_server_error() => {
                Some("try again; if it stays, quote the request to those who run it".to_owned())
            }
            _ => None,
        }
    }

    /// Which key and organisation were sent, by their places.
    fn as_whom(&self) -> String {
        let Connection { url, key, login, org } = &self.connection;
        let login = login.as_ref().map(|login| format!("the login came from {}", login.from));
        let key = key.as_ref().map(|key| format!("the key came from {}", key.from));
        let Some(way) = login.or(key) else {
            return format!(
                "no key was sent to {}: set DISPATCHER_KEY, --key-file, or one in the context, or log in (dispatchctl login)",
                url.value
            );
        };
        let key = format!("{way}, for {}", url.value);
        match org {
            Some(org) => format!("{key}\nthe organisation `{}` came from {}", org.value, org.from),
            None => key,
        }
    }

    pub(super) fn unreachable(&self, error: &reqwest::Error) -> Trouble {
        let url = &self.connection.url;
        let why =
            if error.is_timeout() { "it did not answer in time".to_owned() } else { root(error) };
        let trouble =
            Trouble::connection(format!("cannot reach {} (from {}): {why}", url.value, url.from));
        if !error.is_connect() {
            return trouble;
        }
        trouble.hint(
            "is it running? `dispatcher-api standalone` starts one here; \
             another is named by --url, DISPATCHER_URL or a context",
        )
    }

    pub(super) fn silent(&self) -> Trouble {
        let seconds = REQUEST_TIMEOUT.as_secs();
        Trouble::connection(format!(
            "{} did not answer within {seconds}s",
            self.connection.url.value
        ))
    }
}

/// Message, code and request id of an error's body, as far as it has them.
fn explanation(body: &[u8]) -> (String, String, String) {
    const MOST: usize = 500;
    if let Ok(problem) = serde_json::from_slice::<Problem>(body) {
        return (problem.message, problem.error_code, problem.request_id);
    }
    let text = String::from_utf8_lossy(body);
    let message = match serde_json::from_slice::<Value>(body) {
        Ok(json) => json.get("message").and_then(Value::as_str).unwrap_or(text.trim()).to_owned(),
        // A page of some proxy says nothing in its markup.
        Err(_) if text.trim_start().starts_with('<') => String::new(),
        Err(_) => text.trim().to_owned(),
    };
    (text::shorten(&message, MOST), String::new(), String::new())
}

/// The last cause of an error: the outer ones repeat the address.
fn root(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_read_in_every_form_they_come_in() {
        let read = |body: &str| explanation(body.as_bytes());
        let ours = r#"{"message":"no such run","error_code":"run_not_found","request_id":"r/1"}"#;
        assert_eq!(read(ours), ("no such run".into(), "run_not_found".into(), "r/1".into()));
        assert_eq!(read(r#"{"message":"Forbidden"}"#).0, "Forbidden");
        assert_eq!(read("Bad Request: missing x\n").0, "Bad Request: missing x");
        assert_eq!(read("<html>502</html>").0, "");
        assert_eq!(read("").0, "");
    }
}
