//! Asks the SSO server: its discovery document, then its key set. Nothing is believed beyond its
//! size, and nothing is followed to another host.

use std::{sync::Mutex, time::Duration};

use reqwest::{Client, ClientBuilder, Url, redirect::Policy};
use serde::Deserialize;

use super::jwks::{self, Usable};

/// The most bytes of an answer.
const MOST_BYTES: usize = 256 * 1024;
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the server may be silent.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How long one answer may take, drop by drop.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(15);
/// The most redirects that are followed, on the same host.
const MOST_REDIRECTS: usize = 3;
/// What follows the issuer in the address of its discovery document.
const WELL_KNOWN: &str = "/.well-known/openid-configuration";

/// A client with the limits that asking the SSO server needs, from one that has its TLS already.
///
/// # Errors
/// When TLS cannot be used.
pub fn client(builder: ClientBuilder) -> reqwest::Result<Client> {
    let policy = Policy::custom(|attempt| {
        let same = attempt.previous().last().is_some_and(|from| same_host(from, attempt.url()));
        match (attempt.previous().len(), same) {
            (count, true) if count <= MOST_REDIRECTS => attempt.follow(),
            (_, true) => attempt.error("too many redirects"),
            (_, false) => attempt.error("it redirects to another host, which is not followed"),
        }
    });
    builder
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(READ_TIMEOUT)
        .timeout(TOTAL_TIMEOUT)
        .redirect(policy)
        .build()
}

fn same_host(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host() == other.host()
        && one.port_or_known_default() == other.port_or_known_default()
}

/// Why keys could not be fetched.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody answered, or not in time.
    #[error("{url} cannot be reached: {why}")]
    Unreachable {
        /// What was asked.
        url: String,
        /// What happened.
        why: String,
    },
    /// There was another answer than 200.
    #[error("{url} answered with status {status}")]
    Status {
        /// What was asked.
        url: String,
        /// The answer.
        status: u16,
    },
    /// The answer is not what it should be.
    #[error("the answer of {url} cannot be used: {why}")]
    Unusable {
        /// What was asked.
        url: String,
        /// What is wrong with it.
        why: String,
    },
}

/// Where the SSO server is.
#[derive(Clone, Debug)]
pub struct Server {
    /// The Keycloak server and its realm.
    pub realm: Option<(String, String)>,
    /// The issuer it must call itself; without a realm, where it is as well.
    pub issuer: Option<String>,
}

impl Server {
    /// Every address that may be the issuer's own, likelier ones first: both path styles of
    /// Keycloak, or the issuer.
    #[must_use]
    pub fn places(&self) -> Vec<String> {
        match (&self.realm, &self.issuer) {
            (Some((url, realm)), _) => {
                vec![format!("{url}/realms/{realm}"), format!("{url}/auth/realms/{realm}")]
            }
            (None, Some(issuer)) => vec![issuer.clone()],
            (None, None) => Vec::new(),
        }
    }

    /// What tokens may name as their issuer before the server was asked.
    #[must_use]
    pub fn issuers(&self) -> Vec<String> {
        self.issuer.clone().map_or_else(|| self.places(), |issuer| vec![issuer])
    }
}

#[derive(Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: String,
}

/// Asks one server, and remembers where it was found.
#[derive(Debug)]
pub struct Discovery {
    client: Client,
    server: Server,
    found: Mutex<Option<String>>,
}

impl Discovery {
    /// Asks this server.
    #[must_use]
    pub fn new(client: Client, server: Server) -> Self {
        Self { client, server, found: Mutex::default() }
    }

    /// The issuer as it calls itself, and its keys.
    ///
    /// # Errors
    /// When it cannot be asked, or says something else than it should.
    pub async fn fetch(&self) -> Result<(String, Usable), FetchError> {
        let (place, document) = self.document().await?;
        let expected = self.server.issuer.as_ref().unwrap_or(&place);
        let url = format!("{place}{WELL_KNOWN}");
        if document.issuer.trim_end_matches('/') != expected {
            let said = document.issuer.chars().take(200).collect::<String>();
            let why = format!(
                "it names the issuer {said:?}, expected {expected:?}; set SSO_ISSUER if that is \
                 right"
            );
            return Err(FetchError::Unusable { url, why });
        }
        let keys = Url::parse(&document.jwks_uri).ok().filter(|keys| no_downgrade(&url, keys));
        let Some(keys) = keys else {
            let why = "its jwks_uri is not an address that is as safe as its own".to_owned();
            return Err(FetchError::Unusable { url, why });
        };
        let body = self.get(keys.as_str()).await?;
        let usable = jwks::usable(&body).map_err(|error| FetchError::Unusable {
            url: keys.to_string(),
            why: format!("it is no key set: {error}"),
        })?;
        self.remember(place);
        Ok((document.issuer, usable))
    }

    /// The discovery document and the place where it was.
    async fn document(&self) -> Result<(String, Document), FetchError> {
        let mut failed = None;
        for place in self.places() {
            let url = format!("{place}{WELL_KNOWN}");
            match self.get(&url).await {
                Ok(body) => {
                    let document = serde_json::from_slice(&body).map_err(|error| {
                        let why = format!("it is no discovery document: {error}");
                        FetchError::Unusable { url, why }
                    })?;
                    return Ok((place, document));
                }
                // Only somebody who answers can be asked for the other path.
                Err(error @ FetchError::Status { .. }) => failed = Some(error),
                Err(error) => return Err(error),
            }
        }
        Err(failed.unwrap_or_else(|| FetchError::Unusable {
            url: "SSO_URL".to_owned(),
            why: "it is not set".to_owned(),
        }))
    }

    /// Where to look, the place where it was before first.
    fn places(&self) -> Vec<String> {
        let found = self.found.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let mut places = self.server.places();
        places.sort_by_key(|place| Some(place) != found.as_ref());
        places
    }

    fn remember(&self, place: String) {
        *self.found.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(place);
    }

    async fn get(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        let unreachable = |error: reqwest::Error| FetchError::Unreachable {
            url: url.to_owned(),
            why: why(&error),
        };
        let mut answer = self.client.get(url).send().await.map_err(unreachable)?;
        if answer.status() != reqwest::StatusCode::OK {
            let status = answer.status().as_u16();
            return Err(FetchError::Status { url: url.to_owned(), status });
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > MOST_BYTES {
                let why = format!("it is longer than {MOST_BYTES} bytes");
                return Err(FetchError::Unusable { url: url.to_owned(), why });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// Keys are never fetched with less protection than the document that names them.
fn no_downgrade(from: &str, to: &Url) -> bool {
    to.scheme() == "https" || to.scheme() == "http" && from.starts_with("http://")
}

/// An error with its causes, which carry what people need to know.
fn why(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_may_be_in_two_places_and_have_one_name() {
        let realm = Some(("https://sso".to_owned(), "r".to_owned()));
        let server = Server { realm: realm.clone(), issuer: None };
        assert_eq!(server.issuers(), ["https://sso/realms/r", "https://sso/auth/realms/r"]);
        let server = Server { realm, issuer: Some("https://public/r".to_owned()) };
        assert_eq!((server.issuers().len(), server.places().len()), (1, 2));
        let discovery = Discovery::new(Client::new(), server);
        discovery.remember("https://sso/auth/realms/r".to_owned());
        assert!(discovery.places()[0].contains("/auth/"));
    }

    #[test]
    fn nothing_becomes_less_safe_on_the_way() {
        let url = |text: &str| Url::parse(text).unwrap();
        assert!(no_downgrade("https://sso/x", &url("https://keys.example.com/")));
        assert!(no_downgrade("http://sso/x", &url("http://sso/keys")));
        assert!(!no_downgrade("https://sso/x", &url("http://sso/keys")));
        assert!(!no_downgrade("http://sso/x", &url("file:///etc/passwd")));
        assert!(same_host(&url("https://sso/a"), &url("https://sso:443/b")));
        assert!(!same_host(&url("https://sso/a"), &url("https://sso:444/b")));
    }
}
