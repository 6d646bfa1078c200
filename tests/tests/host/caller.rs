//! Who talks to a host's service from this machine, over the bridge: an operator with a key, and
//! workers that do exactly what a test tells them.

use anyhow::{Context, Result};
use dispatcher_tests::{process::BASE, worker::ScriptedWorker};
use dispatcher_wire::registration::{RegisterRequest, TokenReply, TokenRequest};
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Map;
use uuid::Uuid;

/// The organisation of everything in these tests.
pub(crate) const ORG: &str = "org-1";

/// An operator of all organisations, acting for [`ORG`].
#[derive(Clone)]
pub(crate) struct Caller {
    /// Where the service is.
    pub(crate) url: String,
    key: String,
    client: Client,
}

impl Caller {
    pub(crate) fn new(url: &str, key: &str) -> Self {
        Self { url: url.to_owned(), key: key.to_owned(), client: Client::new() }
    }

    /// A request with the key.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        request.header("authorization", format!("PSK {}", self.key)).header("x-dispatcher-org", ORG)
    }

    /// A recipient of a name, whose worker is told what to do.
    pub(crate) async fn worker(&self, name: &str) -> Result<ScriptedWorker> {
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
