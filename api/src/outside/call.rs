//! One way to call a service outside: within its time, with a bounded answer, never more calls at
//! once than allowed, measured, with the id of the request that it is for.
//!
//! Nothing is tried twice and no redirect is followed: what a call does, only its caller knows. What
//! went along (keys, identities) is never in an error or a log.

use std::{
    error::Error as _,
    fmt::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use reqwest::{
    Client, Method, RequestBuilder, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
    redirect::Policy,
};
use serde::de::DeserializeOwned;
use tokio::{sync::Semaphore, time::timeout_at};

use crate::{
    config::{
        outside::{Address, OutsideSettings},
        tls::{Timeouts, TlsSettings},
    },
    request, tls,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-rh-insights-request-id");
const INTERNAL_REQUEST_ID: HeaderName =
    HeaderName::from_static("x-rh-playbook-dispatcher-internal-request-id");
const IDENTITY: HeaderName = HeaderName::from_static("x-rh-identity");
/// How long calls took, by component, operation and status (or `error`).
pub const SECONDS: &str = "client_request_duration_seconds";
/// The same of the tenant translator, which has a metric of its own.
pub const TRANSLATOR_SECONDS: &str = "tenant_translator_request_duration_seconds";

/// Makes services, which share connections and trust. The client is made when the first of them is.
#[derive(Clone, Debug)]
pub struct Outside {
    tls: TlsSettings,
    connect: Duration,
    limits: OutsideSettings,
    client: Option<Client>,
}

/// Under which metric calls are counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Measured {
    /// With this component.
    As(&'static str),
    /// As those of the tenant translator.
    AsTranslator,
}

/// A service outside.
#[derive(Clone, Debug)]
pub struct Service {
    client: Client,
    address: Address,
    max_answer: usize,
    permits: Arc<Semaphore>,
    measured: Measured,
}

/// A call that is being put together.
#[must_use = "a call does nothing until it is sent"]
#[derive(Debug)]
pub struct Call<'a> {
    service: &'a Service,
    operation: &'static str,
    request: RequestBuilder,
}

/// Why a call has no answer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CallError {
    /// It certainly did not reach the service.
    #[error("it was not reached: {0}")]
    NotSent(String),
    /// It may have reached the service.
    #[error("there is no answer: {0}")]
    NoAnswer(String),
}

/// An answer: its status counts whatever became of its body.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    is_json: bool,
    body: Result<Bytes, String>,
}

impl Outside {
    /// With these limits; nothing is opened yet.
    #[must_use]
    pub fn new(tls: &TlsSettings, timeouts: &Timeouts, limits: OutsideSettings) -> Self {
        Self { tls: tls.clone(), connect: timeouts.connect, limits, client: None }
    }

    /// The service at this address.
    ///
    /// # Errors
    /// When `TLS_CA_FILE` cannot be used.
    pub fn service(&mut self, measured: Measured, address: &Address) -> anyhow::Result<Service> {
        let client = match &self.client {
            Some(client) => client.clone(),
            None => {
                let builder = tls::http_builder(&self.tls)?;
                let builder = builder.connect_timeout(self.connect).redirect(Policy::none());
                self.client.insert(builder.build()?).clone()
            }
        };
        describe();
        Ok(Service {
            client,
            address: address.clone(),
            max_answer: self.limits.max_answer,
            permits: Arc::new(Semaphore::new(
                usize::try_from(self.limits.max_calls).unwrap_or(1).max(1),
            )),
            measured,
        })
    }
}

impl Service {
    /// A question; `path` begins with a slash and is encoded.
    pub fn get(&self, operation: &'static str, path: &str) -> Call<'_> {
        self.call(operation, Method::GET, path)
    }

    /// A message with a JSON body, as it is to go over the wire.
    pub fn post_json(&self, operation: &'static str, path: &str, body: Vec<u8>) -> Call<'_> {
        let mut call = self.call(operation, Method::POST, path);
        let json = HeaderValue::from_static("application/json");
        call.request = call.request.header(CONTENT_TYPE, json).body(body);
        call
    }

    fn call(&self, operation: &'static str, method: Method, path: &str) -> Call<'_> {
        let request = self.client.request(method, format!("{}{path}", self.address.base));
        let call = Call { service: self, operation, request };
        call.header_text(REQUEST_ID, &request::ids().id)
    }

    fn note(&self, operation: &'static str, result: String, took: Duration) {
        match self.measured {
            Measured::As(component) => metrics::histogram!(
                SECONDS, "component" => component, "operation" => operation, "result" => result
            ),
            Measured::AsTranslator => metrics::histogram!(
                TRANSLATOR_SECONDS, "operation" => operation, "result" => result
            ),
        }
        .record(took.as_secs_f64());
    }
}

impl Call<'_> {
    /// With our own id of the request beside the caller's.
    pub fn internal_id(self) -> Self {
        self.header_text(INTERNAL_REQUEST_ID, &request::ids().internal)
    }

    /// With the identity of whoever the request is for, as it came.
    pub fn identity(self, identity: &HeaderValue) -> Self {
        self.header(IDENTITY, identity.clone())
    }

    /// With one more header.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    /// The same with a text, where that can be a header.
    pub fn header_text(self, name: HeaderName, value: &str) -> Self {
        match HeaderValue::from_str(value) {
            Ok(value) if !value.is_empty() => self.header(name, value),
            _ => self,
        }
    }

    /// Sends it and takes the answer.
    ///
    /// # Errors
    /// When there is no answer within the service's time.
    pub async fn send(self) -> Result<Reply, CallError> {
        let Self { service, operation, request } = self;
        let started = Instant::now();
        let deadline = started + service.address.timeout;
        let permit = timeout_at(deadline.into(), service.permits.acquire()).await;
        let Ok(Ok(_permit)) = permit else {
            service.note(operation, "error".to_owned(), started.elapsed());
            let why = "too many calls are under way (OUTSIDE_MAX_CALLS)";
            return Err(CallError::NotSent(why.to_owned()));
        };
        let sent = timeout_at(deadline.into(), request.send()).await;
        let answer = match sent {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) if error.is_connect() || error.is_builder() => {
                Err(CallError::NotSent(chain(error)))
            }
            Ok(Err(error)) => Err(CallError::NoAnswer(chain(error))),
            Err(_) => {
                let seconds = service.address.timeout.as_secs_f64();
                Err(CallError::NoAnswer(format!("not within {seconds} s")))
            }
        };
        let result = answer.as_ref().map(|answer| answer.status().as_u16().to_string());
        service.note(operation, result.unwrap_or_else(|_| "error".to_owned()), started.elapsed());
        let answer = answer?;
        let (status, is_json) = (answer.status(), says_json(&answer));
        let body = timeout_at(deadline.into(), read(answer, service.max_answer)).await;
        let body = body.unwrap_or_else(|_| Err("it did not arrive in time".to_owned()));
        Ok(Reply { status, is_json, body })
    }
}

impl Reply {
    /// What it says, where it is JSON of that shape.
    ///
    /// # Errors
    /// Why it cannot be understood.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, String> {
        if !self.is_json {
            return Err(format!("an answer {} that is not JSON", self.status.as_u16()));
        }
        let body = self.body.as_ref().map_err(|why| format!("an answer that is lost: {why}"))?;
        serde_json::from_slice(body).map_err(|error| format!("an answer that is garbled: {error}"))
    }

    /// The same, where the status is this one.
    ///
    /// # Errors
    /// When it is another, or the answer cannot be understood.
    pub fn json_with<T: DeserializeOwned>(&self, status: StatusCode) -> Result<T, String> {
        if self.status != status {
            return Err(format!("an answer with status {}", self.status.as_u16()));
        }
        self.json()
    }
}

fn says_json(answer: &Response) -> bool {
    let kind = answer.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.unwrap_or_default().to_ascii_lowercase().windows(4).any(|four| four == b"json")
}

async fn read(mut answer: Response, most: usize) -> Result<Bytes, String> {
    let mut body = BytesMut::new();
    while let Some(piece) = answer.chunk().await.map_err(chain)? {
        if body.len() + piece.len() > most {
            return Err(format!("it has more than {most} bytes (OUTSIDE_MAX_ANSWER)"));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.freeze())
}

/// The error and what led to it, without the address, whose query may be somebody's business.
fn chain(error: reqwest::Error) -> String {
    let error = error.without_url();
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(inner) = cause {
        // Writing to a String cannot fail.
        let _ = write!(text, ": {inner}");
        cause = inner.source();
    }
    text
}

fn describe() {
    metrics::describe_histogram!(SECONDS, "Time spent talking to a service outside.");
    metrics::describe_histogram!(
        TRANSLATOR_SECONDS,
        "Time spent talking to the tenant translator."
    );
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use axum::{
        Json, Router,
        http::{HeaderMap, header},
        response::Redirect,
        routing::{get, post},
    };
    use tokio::{io::AsyncReadExt as _, net::TcpListener};

    use super::*;
    use crate::request::Ids;

    const LIMITS: OutsideSettings = OutsideSettings { max_calls: 1, max_answer: 100 };

    async fn echo(headers: HeaderMap) -> Json<BTreeMap<String, String>> {
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        Json(headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect())
    }

    /// A server that answers well and badly.
    async fn server() -> String {
        let kind = |kind: &'static str| [(header::CONTENT_TYPE, kind)];
        let router = Router::new()
            .route("/echo", get(echo))
            .route("/body", post(|body: String| async move { Json(body) }))
            .route("/vendor", get(move || async move { (kind("application/vnd.api+JSON"), "[1]") }))
            .route("/text", get(|| async { "[1]" }))
            .route("/garbled", get(move || async move { (kind("application/json"), "[1") }))
            .route("/long", get(move || async move { (kind("application/json"), "1".repeat(101)) }))
            .route("/elsewhere", get(|| async { Redirect::temporary("/echo") }))
            .route("/never", get(std::future::pending::<()>));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        base
    }

    fn at(base: &str, timeout: u64) -> Service {
        let timeouts = Timeouts { connect: Duration::from_secs(3), read: Duration::from_secs(10) };
        let mut outside = Outside::new(&TlsSettings::default(), &timeouts, LIMITS);
        let address = Address { base: base.to_owned(), timeout: Duration::from_millis(timeout) };
        outside.service(Measured::As("tests"), &address).unwrap()
    }

    #[tokio::test]
    async fn what_goes_along_is_what_was_said() {
        let service = Service { max_answer: 10_000, ..at(&server().await, 60_000) };
        let ids = Arc::new(Ids { id: "request-1".to_owned(), internal: "inner-1".to_owned() });
        let identity = HeaderValue::from_static("b64==");
        let call = async {
            let reply = service.get("echo", "/echo").internal_id().identity(&identity).send().await;
            reply.unwrap().json::<BTreeMap<String, String>>().unwrap()
        };
        let seen = request::within(ids, call).await;
        assert_eq!(seen["x-rh-insights-request-id"], "request-1");
        assert_eq!(seen["x-rh-playbook-dispatcher-internal-request-id"], "inner-1");
        assert_eq!(seen["x-rh-identity"], "b64==");
        assert!(seen["user-agent"].starts_with("dispatcher-api/"));

        let reply = service.get("echo", "/echo").send().await.unwrap();
        let seen = reply.json::<BTreeMap<String, String>>().unwrap();
        let ours = seen.keys().filter(|name| name.starts_with("x-"));
        assert_eq!(ours.count(), 0, "outside of a request there are no ids: {seen:?}");

        let sent = service.post_json("body", "/body", b"{\"a\":\"&\"}".to_vec());
        let reply = sent.send().await.unwrap();
        assert_eq!(reply.json::<String>().unwrap(), "{\"a\":\"&\"}");
    }

    #[tokio::test]
    async fn an_answer_counts_where_it_is_whole_and_json() {
        let service = at(&server().await, 60_000);
        let ask = async |path| service.get("ask", path).send().await.unwrap();
        assert_eq!(ask("/vendor").await.json::<Vec<u8>>(), Ok(vec![1]));
        assert!(ask("/vendor").await.json_with::<Vec<u8>>(StatusCode::CREATED).is_err());
        for (path, why) in [
            ("/text", "not JSON"),
            ("/garbled", "garbled: EOF"),
            ("/long", "more than 100 bytes (OUTSIDE_MAX_ANSWER)"),
        ] {
            let reply = ask(path).await;
            let error = reply.json::<serde_json::Value>().unwrap_err();
            assert_eq!(reply.status, StatusCode::OK);
            assert!(error.contains(why), "{path}: {error}");
        }
        assert_eq!(ask("/elsewhere").await.status, StatusCode::TEMPORARY_REDIRECT);
    }

    #[tokio::test]
    async fn time_is_bounded_and_so_are_calls() {
        let service = at(&server().await, 200);
        let never = service.get("wait", "/never").send().await.unwrap_err();
        assert_eq!(never, CallError::NoAnswer("not within 0.2 s".to_owned()));
        let held = service.permits.acquire().await.unwrap();
        let second = service.get("wait", "/vendor").send().await.unwrap_err();
        assert!(matches!(second, CallError::NotSent(why) if why.contains("OUTSIDE_MAX_CALLS")));
        drop(held);
        assert!(service.get("again", "/vendor").send().await.is_ok(), "the permit is back");
    }

    #[tokio::test]
    async fn whether_it_may_have_arrived_is_told_apart() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let service = at(&base, 60_000);
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_exact(&mut [0; 4]).await.unwrap();
        });
        let cut = service.get("cut", "/?secret").send().await.unwrap_err();
        assert!(matches!(&cut, CallError::NoAnswer(why) if !why.contains("secret")), "{cut}");
        let nobody = service.get("nobody", "/").send().await.unwrap_err();
        assert!(matches!(&nobody, CallError::NotSent(_)), "{nobody}");
    }
}
