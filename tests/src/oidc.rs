//! An issuer of single sign-on tokens of a test's own, as Keycloak looks from outside: discovery
//! under both of its path styles, several keys that change, the device flow, and every way to be
//! unwell. Its own threads, so that it can be gone from one moment to the next.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{StatusCode, Uri},
    response::{IntoResponse as _, Response},
};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

use crate::{
    device::{Devices, Grant},
    jwt::{Algorithm, SigningKey},
    ports, tls_listener,
};

/// The realm that it has.
pub const REALM: &str = "dispatcher";
/// The audience of its tokens, unless a test says otherwise.
pub const AUDIENCE: &str = "dispatcher-api";

/// Where its keys are, below the realm.
const KEYS: &str = "/protocol/openid-connect/certs";

/// Where the realm lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathStyle {
    /// `/auth/realms/<realm>`, as Keycloak had it up to 16.
    Auth,
    /// `/realms/<realm>`, as it has it since.
    Plain,
}

/// How it is.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    /// Well.
    Answering,
    /// Answers after this long.
    Slow(Duration),
    /// Answers everything with 500.
    Failing,
    /// Answers with what is not JSON.
    Garbage,
}

/// How often what was asked for, answered or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// The discovery document.
    pub discovery: usize,
    /// The keys.
    pub keys: usize,
    /// Beginnings of the device flow.
    pub device: usize,
    /// Polls for a token.
    pub token: usize,
    /// Anything else, the other path style for example.
    pub other: usize,
}

/// A running issuer. Ends when dropped.
pub struct Issuer {
    address: SocketAddr,
    shared: Arc<Shared>,
    tls: Option<TlsAcceptor>,
    runtime: Mutex<Option<Runtime>>,
}

struct Shared {
    url: String,
    told: Mutex<Told>,
    devices: Mutex<Devices>,
    counts: Counts,
    /// When its keys were asked for.
    keys_at: Mutex<Vec<Instant>>,
}

/// What the test tells it.
struct Told {
    style: PathStyle,
    mode: Mode,
    keys: Vec<Arc<SigningKey>>,
}

#[derive(Default)]
struct Counts {
    discovery: AtomicUsize,
    keys: AtomicUsize,
    device: AtomicUsize,
    token: AtomicUsize,
    other: AtomicUsize,
}

impl Issuer {
    /// Starts one with the newer path style and one RS256 key, `key-1`.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start() -> Result<Self> {
        Self::start_with(None)
    }

    /// The same, which speaks TLS.
    ///
    /// # Errors
    /// When no port is free.
    pub fn start_with(tls: Option<TlsAcceptor>) -> Result<Self> {
        let address = SocketAddr::from(([127, 0, 0, 1], ports::free()?));
        let told = Told {
            style: PathStyle::Plain,
            mode: Mode::Answering,
            keys: vec![Arc::new(SigningKey::new("key-1", Algorithm::Rs256)?)],
        };
        let shared = Shared {
            url: format!("http{}://{address}", if tls.is_some() { "s" } else { "" }),
            told: Mutex::new(told),
            devices: Mutex::default(),
            counts: Counts::default(),
            keys_at: Mutex::default(),
        };
        let issuer = Self { address, shared: Arc::new(shared), tls, runtime: Mutex::new(None) };
        issuer.up()?;
        Ok(issuer)
    }

    /// The server's address, without a path.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// What its tokens name as issuer.
    #[must_use]
    pub fn issuer(&self) -> String {
        let path = base(locked(&self.shared.told).style);
        format!("{}{path}", self.shared.url)
    }

    /// Moves the realm.
    pub fn set_style(&self, style: PathStyle) {
        locked(&self.shared.told).style = style;
    }

    /// Makes it well or unwell.
    pub fn set_mode(&self, mode: Mode) {
        locked(&self.shared.told).mode = mode;
    }

    /// Makes it unreachable: connections are cut and refused.
    pub fn down(&self) {
        if let Some(runtime) = locked(&self.runtime).take() {
            runtime.shutdown_background();
        }
    }

    /// Makes it reachable, at the same address.
    ///
    /// # Errors
    /// When its port is taken.
    pub fn up(&self) -> Result<()> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build()?;
        let listener = listen(self.address)?;
        let router = Router::new().fallback(answer).with_state(Arc::clone(&self.shared));
        let tls = self.tls.clone();
        runtime.spawn(async move {
            let plain = tokio::net::TcpListener::from_std(listener)?;
            tls_listener::serve(plain, tls, router).await
        });
        *locked(&self.runtime) = Some(runtime);
        Ok(())
    }

    /// Shows a further key, and signs with it from now on.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn add_key(&self, kid: &str, algorithm: Algorithm) -> Result<()> {
        let key = Arc::new(SigningKey::new(kid, algorithm)?);
        locked(&self.shared.told).keys.push(key);
        Ok(())
    }

    /// Shows one key no longer.
    pub fn remove_key(&self, kid: &str) {
        locked(&self.shared.told).keys.retain(|key| key.kid != kid);
    }

    /// Replaces all keys by this one.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn rotate(&self, kid: &str) -> Result<()> {
        let key = Arc::new(SigningKey::new(kid, Algorithm::Rs256)?);
        locked(&self.shared.told).keys = vec![key];
        Ok(())
    }

    /// The key of this id.
    ///
    /// # Errors
    /// When it has none.
    pub fn key(&self, kid: &str) -> Result<Arc<SigningKey>> {
        let told = locked(&self.shared.told);
        let key = told.keys.iter().find(|key| key.kid == kid).cloned();
        key.with_context(|| format!("no key {kid:?}"))
    }

    /// Claims of a person, for five minutes; these replace or extend them.
    #[must_use]
    pub fn claims(&self, more: &Value) -> Value {
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let mut claims = json!({
            "iss": self.issuer(), "aud": AUDIENCE, "sub": "f3f1c7f0-0000-4000-8000-000000000001",
            "iat": now, "exp": now + 300, "preferred_username": "ada", "name": "Ada",
        });
        if let (Some(claims), Some(more)) = (claims.as_object_mut(), more.as_object()) {
            claims.extend(more.clone());
            claims.retain(|_, value| !value.is_null());
        }
        claims
    }

    /// A token with such claims, signed by the newest key. A claim that is null is left out.
    ///
    /// # Errors
    /// When there is no key.
    pub fn token(&self, more: &Value) -> Result<String> {
        let key = locked(&self.shared.told).keys.last().cloned().context("it has a key")?;
        key.token(&self.claims(more))
    }

    /// What was asked of it.
    #[must_use]
    pub fn requests(&self) -> Requests {
        let counts = &self.shared.counts;
        let read = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        Requests {
            discovery: read(&counts.discovery),
            keys: read(&counts.keys),
            device: read(&counts.device),
            token: read(&counts.token),
            other: read(&counts.other),
        }
    }

    /// When its keys were asked for since then, the first first.
    #[must_use]
    pub fn keys_asked_since(&self, begin: Instant) -> Vec<Instant> {
        locked(&self.shared.keys_at).iter().filter(|at| **at >= begin).copied().collect()
    }

    /// Says how many seconds a device must wait between two polls (1 unless said), and for how many
    /// its code counts.
    pub fn set_device_times(&self, interval: u64, expires_in: u64) {
        locked(&self.shared.devices).set_times(interval, expires_in);
    }

    /// The person at the browser agrees; the device gets a token with these claims.
    ///
    /// # Errors
    /// When nobody shows such a code, or there is no key.
    pub fn approve(&self, user_code: &str, more: &Value) -> Result<()> {
        let token = self.token(more)?;
        locked(&self.shared.devices).decide(user_code, Grant::Approved(token))
    }

    /// The person at the browser does not agree.
    ///
    /// # Errors
    /// When nobody shows such a code.
    pub fn deny(&self, user_code: &str) -> Result<()> {
        locked(&self.shared.devices).decide(user_code, Grant::Denied)
    }

    /// Codes that people would be asked to enter now.
    #[must_use]
    pub fn user_codes(&self) -> Vec<String> {
        locked(&self.shared.devices).waiting()
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.down();
    }
}

fn listen(address: SocketAddr) -> Result<std::net::TcpListener> {
    // What is left of cut connections does not keep the port: std sets SO_REUSEADDR.
    let started = Instant::now();
    loop {
        match std::net::TcpListener::bind(address) {
            Ok(listener) => {
                listener.set_nonblocking(true)?;
                return Ok(listener);
            }
            // The threads of the time before may still be closing theirs.
            Err(_) if started.elapsed() < Duration::from_secs(5) => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) => return Err(error).with_context(|| address.to_string()),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn base(style: PathStyle) -> String {
    match style {
        PathStyle::Auth => format!("/auth/realms/{REALM}"),
        PathStyle::Plain => format!("/realms/{REALM}"),
    }
}

async fn answer(State(shared): State<Arc<Shared>>, uri: Uri, body: Bytes) -> Response {
    let (mode, base) = {
        let told = locked(&shared.told);
        (told.mode, base(told.style))
    };
    let path = uri.path().strip_prefix(&base).unwrap_or_default().to_owned();
    let counts = &shared.counts;
    let count = match path.as_str() {
        "/.well-known/openid-configuration" => &counts.discovery,
        KEYS => &counts.keys,
        "/protocol/openid-connect/auth/device" => &counts.device,
        "/protocol/openid-connect/token" => &counts.token,
        _ => &counts.other,
    };
    count.fetch_add(1, Ordering::Relaxed);
    if path == KEYS {
        locked(&shared.keys_at).push(Instant::now());
    }
    match mode {
        Mode::Answering => {}
        Mode::Slow(by) => tokio::time::sleep(by).await,
        Mode::Failing => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Mode::Garbage => return "<html>not what you wanted".into_response(),
    }
    let (status, value) = well(&shared, &base, &path, &body);
    (status, [("content-type", "application/json")], value.to_string()).into_response()
}

fn well(shared: &Shared, base: &str, path: &str, body: &[u8]) -> (StatusCode, Value) {
    match path {
        "/.well-known/openid-configuration" => (StatusCode::OK, discovery(&shared.url, base)),
        "/protocol/openid-connect/certs" => {
            let keys: Vec<_> = locked(&shared.told).keys.iter().map(|key| key.jwk()).collect();
            (StatusCode::OK, json!({ "keys": keys }))
        }
        "/protocol/openid-connect/auth/device" => {
            let verification = format!("{}{base}/device", shared.url);
            locked(&shared.devices).begin(&form(body), &verification)
        }
        "/protocol/openid-connect/token" => locked(&shared.devices).poll(&form(body)),
        _ => (StatusCode::NOT_FOUND, json!({ "error": "Realm or path does not exist" })),
    }
}

fn discovery(url: &str, base: &str) -> Value {
    let at = |path: &str| format!("{url}{base}/protocol/openid-connect/{path}");
    json!({
        "issuer": format!("{url}{base}"),
        "jwks_uri": at("certs"),
        "authorization_endpoint": at("auth"),
        "token_endpoint": at("token"),
        "device_authorization_endpoint": at("auth/device"),
        "grant_types_supported": [crate::device::GRANT_TYPE],
    })
}

fn form(body: &[u8]) -> BTreeMap<String, String> {
    let uri = format!("/?{}", String::from_utf8_lossy(body));
    let uri: Option<Uri> = uri.parse().ok();
    let fields = uri.and_then(|uri| axum::extract::Query::try_from_uri(&uri).ok());
    fields.map(|axum::extract::Query(fields)| fields).unwrap_or_default()
}
