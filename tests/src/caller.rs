//! Who talks to a deployment from outside, such as a host's over its bridge: an operator with a key, and
//! workers that do exactly what a test tells them.

use anyhow::{Context, Result};
use dispatcher_wire::registration::{RegisterRequest, TokenReply, TokenRequest};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Map;
use uuid::Uuid;

use crate::{process::BASE, worker::ScriptedWorker};

/// The organisation of everything in these tests.
pub const ORG: &str = "org-1";

/// An operator of all organisations, acting for [`ORG`].
#[derive(Clone)]
pub struct Caller {
    /// Where the service is.
    pub url: String,
    key: String,
    client: Client,
}

impl Caller {
    /// The one with this key, at this address.
    #[must_use]
    pub fn new(url: &str, key: &str) -> Self {
        Self { url: url.to_owned(), key: key.to_owned(), client: Client::new() }
    }

    /// A request with the key.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        request.header("authorization", format!("PSK {}", self.key)).header("x-dispatcher-org", ORG)
    }

    /// A recipient of a name, whose worker is told what to do.
    ///
    /// # Errors
    /// When it cannot be registered.
    pub async fn worker(&self, name: &str) -> Result<ScriptedWorker> {
        let wanted = TokenRequest { name: Some(name.to_owned()), ..TokenRequest::default() };
        let path = format!("{BASE}/recipients/registrations");
        let answer = self.request(Method::POST, &path).json(&wanted).send().await?;
        let token: TokenReply = answer.error_for_status()?.json().await.context("a token")?;
        let recipient = Uuid::new_v4();
        let key = format!("dwk_{}_{}", recipient.simple(), Uuid::new_v4().simple());
        let body = RegisterRequest {
            recipient,
            name: name.to_owned(),
            key: key.clone(),
            facts: Map::new(),
        };
        let request = self.client.post(format!("{}{BASE}/recipients/register", self.url));
        let request = request.header("authorization", format!("Bearer {}", token.token));
        request.json(&body).send().await?.error_for_status()?;
        Ok(ScriptedWorker::new(&self.url, recipient, key))
    }
}
