//! The service over HTTPS: the link of a worker on another host.
//!
//! Every request has a deadline, every answer a limit, redirects are not followed. What an answer
//! means is in `answers`.

mod answers;

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use dispatcher_wire::{
    RunStatus,
    event::RunnerEvent,
    execution::{
        AppendReply, CLAIM_HEADER, ClaimReply, ClaimRequest, ClaimedRun, Doorbell,
        FIRST_COUNTER_HEADER, FinishReply, FinishRequest, WaitRequest,
    },
    inputs::RunInputs,
    registration::{Facts, RegisterReply, RegisterRequest, VERSION_HEADER},
};
use reqwest::{
    Client, Method, RequestBuilder, Url,
    header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue},
    redirect::Policy,
};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use self::answers::Answer;
use crate::{
    identity::Identity,
    link::{EventSink, LinkError, RunSource},
    outbound::Outbound,
    plain_http::PlainHttp,
};

/// Where the service's routes begin, below its address.
const BASE: [&str; 3] = ["api", "playbook-dispatcher", "v1"];
/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How long a request may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How long one with a megabyte of events may take, on a slow line.
const EVENTS_WITHIN: Duration = Duration::from_secs(120);
/// How much longer than asked for a wait may take.
const WAIT_MARGIN: Duration = Duration::from_secs(15);
/// Unanswered probes after which a silent connection counts as dead.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// How long a connection is kept for the next request: less than a balancer keeps it.
const IDLE_FOR: Duration = Duration::from_secs(20);

/// Why there is no link at all.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The address is none.
    #[error("{0:?} is not the dispatcher's address: {1}; allowed: https://HOST[:PORT][/PATH]")]
    Address(String, String),
    /// The key would travel in the clear.
    #[error(
        "{0} is plain http to another host, where everybody on the way can read this worker's key; \
         use https, or allow it with WORKER_ALLOW_HTTP and this host's name"
    )]
    Plain(Url),
    /// The client cannot be made.
    #[error("https cannot be spoken: {0}")]
    Client(String),
}

/// The service, for anybody.
#[derive(Clone, Debug)]
pub struct Service {
    base: Url,
    client: Client,
}

impl Service {
    /// The service at this address.
    ///
    /// # Errors
    /// When the address cannot be used.
    pub fn at(
        address: &str,
        plain_http: &PlainHttp,
        outbound: &Outbound,
    ) -> Result<Self, SetupError> {
        let base = address_of(address, plain_http)?;
        let mut headers = HeaderMap::new();
        let version = HeaderValue::from_static(env!("CARGO_PKG_VERSION"));
        headers.insert(HeaderName::from_static(VERSION_HEADER), version);
        let client = outbound
            .builder(&base)
            .default_headers(headers)
            .redirect(Policy::none())
            .connect_timeout(CONNECT_WITHIN)
            .tcp_keepalive(KEEPALIVE)
            .tcp_keepalive_interval(KEEPALIVE)
            .pool_idle_timeout(IDLE_FOR)
            .build();
        let client = client.map_err(|error| SetupError::Client(crate::outbound::causes(&error)))?;
        Ok(Self { base, client })
    }

    /// Registers a worker with a one-time token.
    ///
    /// # Errors
    /// When it is refused, or there is no answer: then the same request may be repeated.
    pub async fn register(
        &self,
        token: &str,
        request: &RegisterRequest,
    ) -> Result<RegisterReply, LinkError> {
        let sent = self.request(Method::POST, &["recipients", "register"], token)?;
        answers::of(sent.json(request).timeout(ANSWER_WITHIN)).await?.registered()
    }

    fn request(
        &self,
        method: Method,
        path: &[&str],
        bearer: &str,
    ) -> Result<RequestBuilder, LinkError> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(BASE).extend(path);
        }
        let mut key = HeaderValue::try_from(format!("Bearer {bearer}"))
            .map_err(|_| LinkError::Refused("the key or token cannot be sent".to_owned()))?;
        key.set_sensitive(true);
        Ok(self.client.request(method, url).header(AUTHORIZATION, key))
    }
}

/// The dispatcher's address, where a key may be sent to it.
fn address_of(address: &str, plain_http: &PlainHttp) -> Result<Url, SetupError> {
    let wrong = |why: String| {
        // What stands before an @ is a password.
        let shown = address.rsplit('@').next().unwrap_or_default();
        SetupError::Address(shown.to_owned(), why)
    };
    let url = Url::parse(address).map_err(|error| wrong(error.to_string()))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("it holds a user or a password".to_owned()));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it has a query or a fragment".to_owned()));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if plain_http.allows(&url) => Ok(url),
        "http" => Err(SetupError::Plain(url)),
        other => Err(wrong(format!("its scheme is {other}"))),
    }
}

/// Tells the key in force, where it may have changed.
pub type KeySource = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// The link of a registered worker.
pub struct HttpLink {
    service: Service,
    claimed_by: String,
    key: Mutex<String>,
    newer_key: KeySource,
}

impl std::fmt::Debug for HttpLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpLink").field("service", &self.service.base).finish_non_exhaustive()
    }
}

impl HttpLink {
    /// The link of this worker. Where its key is refused, the key source is asked for another.
    #[must_use]
    pub fn new(service: Service, identity: &Identity, newer_key: KeySource) -> Self {
        let claimed_by = format!("{}, process {}", identity.name, std::process::id());
        Self { service, claimed_by, key: Mutex::new(identity.key.clone()), newer_key }
    }

    /// Says what is known of this host. A service of a version before that does not listen.
    ///
    /// # Errors
    /// When there is no answer, or it refuses.
    pub async fn tell(&self, facts: &Facts) -> Result<(), LinkError> {
        let request = self.request(Method::POST, &["execution", "facts"])?.json(facts);
        let answer = self.answer(request.timeout(ANSWER_WITHIN)).await?;
        if answer.is_unknown_route() { Ok(()) } else { answer.done() }
    }

    /// Whether the service knows this worker's key. Counts as no sign of life.
    ///
    /// # Errors
    /// When it does not, or there is no answer.
    pub async fn check(&self) -> Result<(), LinkError> {
        // Nobody holds this run; that it is not held is said only to a worker that is known.
        let nil = Uuid::nil().to_string();
        let request = self.request(Method::GET, &["runs", &nil, "inputs"])?;
        let request = request.header(CLAIM_HEADER, &nil).timeout(ANSWER_WITHIN);
        match self.json::<RunInputs>(request).await {
            Err(LinkError::NotYours) | Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn request(&self, method: Method, path: &[&str]) -> Result<RequestBuilder, LinkError> {
        self.service.request(method, path, &self.key())
    }

    fn under_claim(
        &self,
        method: Method,
        (run_id, claim): (Uuid, Uuid),
        what: &str,
    ) -> Result<RequestBuilder, LinkError> {
        let request = self.request(method, &["runs", &run_id.to_string(), what])?;
        Ok(request.header(CLAIM_HEADER, claim.to_string()))
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, LinkError> {
        self.answer(request).await?.json()
    }

    /// The answer, after a look for another key where this one is refused.
    async fn answer(&self, request: RequestBuilder) -> Result<Answer, LinkError> {
        let answer = answers::of(request).await?;
        if answer.is_key_refused()
            && let Some(newer) = (self.newer_key)().filter(|newer| *newer != self.key())
        {
            tracing::info!("this worker was registered again; its new key is used from now on");
            *self.key.lock().unwrap_or_else(PoisonError::into_inner) = newer;
            return Err(LinkError::Unavailable("the key has been replaced".to_owned()));
        }
        Ok(answer)
    }

    fn key(&self) -> String {
        self.key.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl RunSource for HttpLink {
    async fn wait(&self, at_most: Duration, at_a_time: u32) -> Result<Doorbell, LinkError> {
        let body = WaitRequest { wait_seconds: at_most.as_secs(), at_a_time };
        let request = self.request(Method::POST, &["execution", "wait"])?.json(&body);
        self.json(request.timeout(at_most + WAIT_MARGIN)).await
    }

    async fn claim(&self, at_a_time: u32) -> Result<Option<ClaimedRun>, LinkError> {
        let body = ClaimRequest { claimed_by: self.claimed_by.clone(), at_a_time };
        let request = self.request(Method::POST, &["execution", "claim"])?.json(&body);
        Ok(self.json::<ClaimReply>(request.timeout(ANSWER_WITHIN)).await?.run)
    }

    async fn inputs(&self, run_id: Uuid, claim: Uuid) -> Result<RunInputs, LinkError> {
        let request = self.under_claim(Method::GET, (run_id, claim), "inputs")?;
        self.answer(request.timeout(ANSWER_WITHIN)).await?.inputs()
    }
}

#[async_trait]
impl EventSink for HttpLink {
    async fn append(
        &self,
        run_id: Uuid,
        claim: Uuid,
        first_counter: u64,
        events: &[RunnerEvent],
    ) -> Result<AppendReply, LinkError> {
        let mut body = Vec::new();
        for event in events {
            serde_json::to_writer(&mut body, event)
                .map_err(|error| LinkError::Refused(format!("a record has no form: {error}")))?;
            body.push(b'\n');
        }
        let request = self
            .under_claim(Method::POST, (run_id, claim), "events")?
            .header(FIRST_COUNTER_HEADER, first_counter)
            .header("content-type", "application/x-ndjson");
        self.json(request.body(body).timeout(EVENTS_WITHIN)).await
    }

    async fn finish(
        &self,
        run_id: Uuid,
        claim: Uuid,
        next_counter: u64,
    ) -> Result<RunStatus, LinkError> {
        let request = self.under_claim(Method::POST, (run_id, claim), "finish")?;
        let request = request.json(&FinishRequest { next_counter }).timeout(EVENTS_WITHIN);
        Ok(self.json::<FinishReply>(request).await?.status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_travel_in_the_clear_only_where_it_is_allowed() {
        for allowed in
            ["https://a.example/x", "http://127.0.0.1:1", "http://[::1]", "http://localhost"]
        {
            assert!(address_of(allowed, &PlainHttp::Never).is_ok(), "{allowed}");
        }
        let told = address_of("http://10.0.0.1", &PlainHttp::Never).unwrap_err().to_string();
        assert!(told.contains("WORKER_ALLOW_HTTP"), "{told}");
        assert!(address_of("http://10.0.0.1", &PlainHttp::Everywhere).is_ok());
        for wrong in ["ftp://a", "a.example", "https://a/?q", "https://u:hunter2@a.example"] {
            let told = address_of(wrong, &PlainHttp::Everywhere).unwrap_err().to_string();
            assert!(told.contains("allowed") && !told.contains("hunter2"), "{told}");
        }
    }
}
