//! The SSO server: where it is asked for what, and asking. Its answers are bounded and its errors
//! told without any token.

use reqwest::{Client, Url, header::CONTENT_TYPE};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    client, connection, text,
    trouble::{Result, Trouble},
};

/// The largest answer, in bytes.
const MAX_ANSWER: usize = 256 * 1024;

/// What its discovery document says, as far as it matters here.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Issuer {
    /// What it calls itself.
    pub(super) issuer: String,
    /// Where a device flow begins.
    device_authorization_endpoint: Option<String>,
    /// Where tokens are given.
    pub(super) token_endpoint: String,
    /// Where they are taken back.
    pub(super) revocation_endpoint: Option<String>,
}

/// An error of OAuth 2.0.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Refusal {
    /// Its name.
    #[serde(default)]
    pub(super) error: String,
    /// The same in words.
    #[serde(default)]
    error_description: String,
}

impl Refusal {
    /// For people.
    pub(super) fn told(&self) -> String {
        const MOST: usize = 300;
        let Self { error, error_description } = self;
        let both = if error_description.is_empty() {
            error.clone()
        } else {
            format!("{error_description} ({error})")
        };
        text::shorten(&both, MOST)
    }
}

/// What it answered to a form.
pub(super) enum Answered<T> {
    /// This.
    Given(T),
    /// Not that.
    Refused(Refusal),
}

impl Issuer {
    /// Finds the first of these that answers and calls itself so.
    pub(super) async fn discover(candidates: &[String], insecure: bool) -> Result<Self> {
        let mut last = Trouble::failed("the dispatcher names no SSO server");
        for candidate in candidates {
            match Self::at(candidate, insecure).await {
                Ok(issuer) => return Ok(issuer),
                Err(trouble) => last = trouble,
            }
        }
        Err(last)
    }

    async fn at(candidate: &str, insecure: bool) -> Result<Self> {
        let url = format!("{}/.well-known/openid-configuration", candidate.trim_end_matches('/'));
        let url = private(&url, insecure)?;
        let answer = http(&url)?.get(url.clone()).send().await;
        let answer = answer.map_err(|error| unreachable(&url, &error))?;
        let status = answer.status();
        let body = read(&url, answer).await?;
        if !status.is_success() {
            return Err(Trouble::connection(format!("{url} answered {}", status.as_u16())));
        }
        let found: Self = serde_json::from_slice(&body).map_err(|error| {
            Trouble::connection(format!("{url} answered no discovery document: {error}"))
        })?;
        if found.issuer != candidate {
            let other = text::shorten(&found.issuer, 200);
            return Err(Trouble::failed(format!("{url} calls itself {other}, not {candidate}")));
        }
        let endpoints = [&found.device_authorization_endpoint, &found.revocation_endpoint];
        for endpoint in endpoints.into_iter().flatten().chain([&found.token_endpoint]) {
            private(endpoint, insecure)?;
        }
        Ok(found)
    }

    /// Where a device flow begins.
    pub(super) fn device_endpoint(&self) -> Result<&str> {
        self.device_authorization_endpoint.as_deref().ok_or_else(|| {
            Trouble::failed(format!("{} does not offer the device flow", self.issuer))
                .hint("those who run it have to allow it, for the client too")
        })
    }
}

/// Sends a form.
pub(super) async fn post<T: DeserializeOwned>(
    endpoint: &str,
    form: &[(&str, &str)],
) -> Result<Answered<T>> {
    let url = parsed(endpoint)?;
    let request = http(&url)?.post(url.clone());
    let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    let answer = request.body(encoded(&url, form)).send().await;
    let answer = answer.map_err(|error| unreachable(&url, &error))?;
    let status = answer.status();
    let body = read(&url, answer).await?;
    let unexpected = || {
        Trouble::connection(format!("{url} answered {} with something unexpected", status.as_u16()))
    };
    if status.is_success() {
        // An empty answer is one, too: to a token that was taken back.
        let body: &[u8] = if body.is_empty() { b"null" } else { &body };
        return serde_json::from_slice(body).map(Answered::Given).map_err(|_| unexpected());
    }
    let refusal: Refusal = serde_json::from_slice(&body).unwrap_or_default();
    if status.is_server_error() || refusal.error.is_empty() {
        return Err(unexpected());
    }
    Ok(Answered::Refused(refusal))
}

fn http(url: &Url) -> Result<Client> {
    let built =
        client::plain(connection::is_loopback(url)).timeout(client::REQUEST_TIMEOUT).build();
    built.map_err(|error| Trouble::failed(format!("cannot speak HTTP: {error}")))
}

async fn read(url: &Url, mut answer: reqwest::Response) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| unreachable(url, &error))? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(Trouble::connection(format!("{url} answered more than is believed")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The form as a query would be written, which is the same.
fn encoded(url: &Url, form: &[(&str, &str)]) -> String {
    let mut url = url.clone();
    url.query_pairs_mut().clear().extend_pairs(form);
    url.query().unwrap_or_default().to_owned()
}

fn parsed(address: &str) -> Result<Url> {
    Url::parse(address)
        .map_err(|error| Trouble::failed(format!("`{address}` is not an address: {error}")))
}

/// An address to which tokens may be sent.
fn private(address: &str, insecure: bool) -> Result<Url> {
    let url = parsed(address)?;
    if url.scheme() == "https" || insecure || connection::is_loopback(&url) {
        return Ok(url);
    }
    Err(Trouble::usage(format!(
        "no token is sent to {url} over plain http, where others can read it"
    ))
    .hint("accept it for this context: dispatchctl context set NAME --insecure"))
}

fn unreachable(url: &Url, error: &reqwest::Error) -> Trouble {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Trouble::connection(format!("cannot reach the SSO server at {url}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_go_nowhere_in_the_clear() {
        assert!(private("https://sso.example/x", false).is_ok());
        assert!(private("http://127.0.0.1:1/x", false).is_ok());
        assert!(private("http://sso.example/x", true).is_ok());
        assert!(
            private("http://sso.example/x", false).unwrap_err().message().contains("plain http")
        );
        assert!(private("nonsense", true).is_err());
    }

    #[test]
    fn forms_are_encoded() {
        let url = parsed("https://sso.example/token?old=1").unwrap();
        assert_eq!(encoded(&url, &[("a", "b c&d"), ("e", "é")]), "a=b+c%26d&e=%C3%A9");
    }
}
