//! HTTP to the dispatcher: addresses, headers, limits, one retry, and errors that say what to do.
//! Knows nothing of what the answers mean.

mod explain;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::{
    Method, RequestBuilder, Response, StatusCode, Url,
    header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
    redirect,
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    connection::Connection,
    text,
    trouble::{Result, Trouble},
};

/// Where our routes and the public ones begin.
const BASE: [&str; 3] = ["api", "playbook-dispatcher", "v1"];
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request may take, streams excepted.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// What a body may take on top, per MiB, so that slow lines can send large ones.
const TIMEOUT_PER_MIB: Duration = Duration::from_secs(8);
/// Unanswered probes after which a silent connection counts as dead.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// The largest answer that is read into memory.
const MAX_ANSWER: usize = 64 * 1024 * 1024;
/// How often an answer "still working on it" to the same request is waited for.
const MAX_WAITS: u32 = 10;
/// The longest wait that an answer may ask for.
const MAX_WAIT: u64 = 10;

const ORG_HEADER: HeaderName = HeaderName::from_static("x-dispatcher-org");
const IDEMPOTENCY_HEADER: HeaderName = HeaderName::from_static("idempotency-key");
const REQUEST_ID_HEADER: &str = "x-rh-insights-request-id";

/// A client of one dispatcher.
pub(crate) struct Client {
    http: reqwest::Client,
    connection: Connection,
}

/// One request, described so that it can be sent again.
struct Call<'a> {
    method: Method,
    url: Url,
    content_type: Option<&'a str>,
    idempotency_key: Option<&'a str>,
    body: Bytes,
}

impl Client {
    /// A client of the dispatcher that the options name.
    pub(crate) fn new(at: &crate::cli::At) -> Result<Self> {
        Self::to(Connection::resolve(at)?)
    }

    /// A client of this connection.
    pub(crate) fn to(connection: Connection) -> Result<Self> {
        let builder = plain(connection.is_loopback()).default_headers(headers(&connection)?);
        let http =
            builder.build().map_err(|e| Trouble::failed(format!("cannot speak HTTP: {e}")))?;
        Ok(Self { http, connection })
    }

    /// The organisation that was named.
    pub(crate) fn org(&self) -> Option<&str> {
        self.connection.org.as_ref().map(|org| org.value.as_str())
    }

    /// Reads something below the base path.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(String, String)],
    ) -> Result<T> {
        self.send_json(Call::new(Method::GET, self.public_url(path, query)?)).await
    }

    /// Reads something below the base path that may not be there.
    pub(crate) async fn get_if_there<T: DeserializeOwned>(
        &self,
        path: &[&str],
    ) -> Result<Option<T>> {
        match self.get(path, &[]).await {
            Err(trouble) if trouble.is_missing() => Ok(None),
            answer => answer.map(Some),
        }
    }

    /// Puts a body below the base path.
    pub(crate) async fn put<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(String, String)],
        content_type: &str,
        body: Bytes,
    ) -> Result<T> {
        let mut call = Call::new(Method::PUT, self.public_url(path, query)?);
        call.content_type = Some(content_type);
        call.body = body;
        self.send_json(call).await
    }

    /// Posts a request to an internal route; the key makes it safe to send twice.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        idempotency_key: Option<&str>,
        body: &impl Serialize,
    ) -> Result<T> {
        let body = serde_json::to_vec(body)
            .map_err(|error| Trouble::failed(format!("cannot write the request: {error}")))?;
        let mut call = Call::new(Method::POST, self.url(path.iter().copied(), &[])?);
        call.content_type = Some("application/json");
        call.idempotency_key = idempotency_key;
        call.body = body.into();
        self.send_json(call).await
    }

    /// Creates something below the base path. It is not sent twice.
    pub(crate) async fn create<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T> {
        let path: Vec<&str> = BASE.iter().chain(path).copied().collect();
        self.post(&path, None, body).await
    }

    /// Deletes something below the base path.
    pub(crate) async fn delete(&self, path: &[&str]) -> Result<()> {
        self.send(&Call::new(Method::DELETE, self.public_url(path, &[])?)).await.map(drop)
    }

    /// Ends something below the base path, and reads what the dispatcher says of it.
    pub(crate) async fn end<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T> {
        self.send_json(Call::new(Method::DELETE, self.public_url(path, &[])?)).await
    }

    /// Opens a stream below the base path; only its beginning has a time limit.
    pub(crate) async fn open(
        &self,
        path: &[String],
        query: &[(String, String)],
    ) -> Result<Response> {
        let path: Vec<_> = path.iter().map(String::as_str).collect();
        let url = self.public_url(&path, query)?;
        let request = || self.http.get(url.clone());
        match tokio::time::timeout(REQUEST_TIMEOUT, self.authorized(request)).await {
            Ok(answer) => self.checked(answer?.map_err(|error| self.unreachable(&error))?).await,
            Err(_) => Err(self.silent()),
        }
    }

    /// What cut a stream, in words.
    pub(crate) fn cut(&self, error: &reqwest::Error) -> Trouble {
        self.unreachable(error)
    }

    fn public_url(&self, path: &[&str], query: &[(String, String)]) -> Result<Url> {
        self.url(BASE.iter().chain(path).copied(), query)
    }

    fn url<'a>(
        &self,
        path: impl Iterator<Item = &'a str>,
        query: &[(String, String)],
    ) -> Result<Url> {
        let mut url = self.connection.url.value.clone();
        let mut segments = url
            .path_segments_mut()
            .map_err(|()| Trouble::usage("the dispatcher's address cannot have a path"))?;
        segments.pop_if_empty();
        for segment in path {
            // These would silently name another resource.
            if matches!(segment, "" | "." | "..") {
                return Err(Trouble::usage(format!("`{segment}` cannot be a name")));
            }
            segments.push(segment);
        }
        drop(segments);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    async fn send_json<T: DeserializeOwned>(&self, call: Call<'_>) -> Result<T> {
        let answer = self.send(&call).await?;
        let body = self.body(answer).await?;
        serde_json::from_slice(&body).map_err(|error| {
            Trouble::connection(format!(
                "{} answered {} {} with something unexpected: {error}",
                self.connection.url.value,
                call.method,
                call.url.path()
            ))
            .hint("is this a dispatcher, of a version that fits this program?")
        })
    }

    /// Sends, once more where the first attempt was cut and repeating is safe, and again while the
    /// dispatcher says that it still works on the same request.
    async fn send(&self, call: &Call<'_>) -> Result<Response> {
        let mut waits = 0;
        let mut retried = !call.is_repeatable();
        loop {
            match self.authorized(|| call.request(&self.http)).await? {
                Err(_) if !retried => retried = true,
                Err(error) => return Err(self.unreachable(&error)),
                Ok(answer) => {
                    let pause = call.pause_after(&answer).filter(|_| waits < MAX_WAITS);
                    let Some(pause) = pause else { return self.checked(answer).await };
                    waits += 1;
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// Sends with the login's token, where there is one; once more with another token where it is
    /// refused, since nothing was done then.
    async fn authorized(
        &self,
        request: impl Fn() -> RequestBuilder,
    ) -> Result<reqwest::Result<Response>> {
        let Some(login) = &self.connection.login else { return Ok(request().send().await) };
        let token = login.value.token().await?;
        let answer = request().bearer_auth(&token).send().await;
        if !answer.as_ref().is_ok_and(|answer| answer.status() == StatusCode::UNAUTHORIZED) {
            return Ok(answer);
        }
        match login.value.token_instead_of(&token).await? {
            Some(other) => Ok(request().bearer_auth(other).send().await),
            None => Ok(answer),
        }
    }

    async fn checked(&self, answer: Response) -> Result<Response> {
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let id = answer.headers().get(REQUEST_ID_HEADER);
        let id = id.and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
        let body = self.body(answer).await.unwrap_or_default();
        Err(self.refused(status, &body, &id))
    }

    async fn body(&self, mut answer: Response) -> Result<Bytes> {
        let mut body = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.unreachable(&error))? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(Trouble::connection(format!(
                    "{} answered more than {}",
                    self.connection.url.value,
                    text::bytes(MAX_ANSWER as u64)
                )));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }
}

impl<'a> Call<'a> {
    fn new(method: Method, url: Url) -> Self {
        Self { method, url, content_type: None, idempotency_key: None, body: Bytes::new() }
    }

    fn is_repeatable(&self) -> bool {
        self.method != Method::POST || self.idempotency_key.is_some()
    }

    fn request(&self, http: &reqwest::Client) -> RequestBuilder {
        let mib = u32::try_from(self.body.len() >> 20).unwrap_or(u32::MAX);
        let mut request = http
            .request(self.method.clone(), self.url.clone())
            .timeout(REQUEST_TIMEOUT + TIMEOUT_PER_MIB.saturating_mul(mib));
        if let Some(content_type) = self.content_type {
            request = request.header("content-type", content_type).body(self.body.clone());
        }
        if let Some(key) = self.idempotency_key {
            request = request.header(IDEMPOTENCY_HEADER, key);
        }
        request
    }

    /// How long to wait before asking again, where the answer is that the same request, sent
    /// before, is still being worked on.
    fn pause_after(&self, answer: &Response) -> Option<Duration> {
        if self.idempotency_key.is_none() || answer.status() != StatusCode::CONFLICT {
            return None;
        }
        let seconds: u64 = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
        Some(Duration::from_secs(seconds.clamp(1, MAX_WAIT)))
    }
}

/// What every client of this program has in common. A proxy is never asked for this machine.
pub(crate) fn plain(loopback: bool) -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder()
        .user_agent(concat!("dispatchctl/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_keepalive(KEEPALIVE)
        .tcp_keepalive_interval(KEEPALIVE)
        .redirect(redirect::Policy::none());
    if loopback { builder.no_proxy() } else { builder }
}

fn headers(connection: &Connection) -> Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    if let Some(key) = &connection.key {
        let mut value = HeaderValue::try_from(format!("PSK {}", key.value.expose()))
            .map_err(|_| Trouble::usage(format!("the key from {} cannot be sent", key.from)))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    if let Some(org) = &connection.org {
        let value = HeaderValue::try_from(org.value.as_str()).map_err(|_| {
            Trouble::usage(format!("`{}` (from {}) cannot be an organisation", org.value, org.from))
        })?;
        headers.insert(ORG_HEADER, value);
    }
    Ok(headers)
}
