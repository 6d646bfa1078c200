//! A service outside, as a test wants it: it remembers every request, and answers it well, badly,
//! late, in part or not at all. It speaks just enough HTTP/1.1 for that, so that it can break it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
        BufReader,
    },
    net::TcpListener,
    sync::Semaphore,
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    /// `GET`, `POST`.
    pub method: String,
    /// With the query.
    pub path: String,
    /// Under lower-case names.
    pub headers: BTreeMap<String, String>,
    /// As sent.
    pub body: String,
    /// The number of the connection that it came over, from 1.
    pub connection: usize,
}

impl Seen {
    /// Its body as JSON.
    ///
    /// # Errors
    /// When it is not JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| self.body.clone())
    }

    /// One of its headers, or nothing.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// What it does with a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Answers with this status, content type and body.
    Answer(u16, &'static str, String),
    /// The same after a while.
    Late(Duration, u16, &'static str, String),
    /// The same once there is a permit for it.
    Held(Arc<Semaphore>, u16, &'static str, String),
    /// Ends the connection without an answer.
    Cut,
    /// Ends the connection in the middle of an answer with this status.
    Half(u16),
    /// Says something that is not HTTP.
    Babble,
    /// Never answers.
    Silence,
}

impl Reply {
    /// JSON with a status.
    #[must_use]
    pub fn json(status: u16, body: &Value) -> Self {
        Self::Answer(status, "application/json", body.to_string())
    }

    /// A status with a text.
    #[must_use]
    pub fn text(status: u16, body: &str) -> Self {
        Self::Answer(status, "text/plain", body.to_owned())
    }
}

type Decide = dyn Fn(&Seen) -> Reply + Send + Sync;

/// A running stub. Gone when dropped.
pub struct Stub {
    address: SocketAddr,
    shared: Arc<Shared>,
    serving: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    decide: Mutex<Arc<Decide>>,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
}

impl Stub {
    /// Starts one on a free loopback port.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start(decide: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Result<Self> {
        Self::start_with(None, decide).await
    }

    /// The same, which speaks TLS.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn start_with(
        tls: Option<TlsAcceptor>,
        decide: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            decide: Mutex::new(Arc::new(decide)),
            seen: Mutex::default(),
            connections: AtomicUsize::new(0),
        });
        let serving = tokio::spawn(serve(listener, tls, Arc::clone(&shared)));
        Ok(Self { address, shared, serving: Mutex::new(Some(serving)) })
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on it does this.
    pub fn replies(&self, decide: impl Fn(&Seen) -> Reply + Send + Sync + 'static) {
        *locked(&self.shared.decide) = Arc::new(decide);
    }

    /// What it was asked, in the order of asking.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        locked(&self.shared.seen).clone()
    }

    /// The same, and it is forgotten.
    pub fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut locked(&self.shared.seen))
    }

    /// It is gone: connections are refused.
    pub async fn leave(&self) {
        let serving = locked(&self.serving).take();
        if let Some(serving) = serving {
            serving.abort();
            // Aborted: the listener is closed then.
            let _ = serving.await;
        }
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        if let Some(serving) = locked(&self.serving).take() {
            serving.abort();
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, shared: Arc<Shared>) {
    // Connections end with their listener.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let number = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
        let (shared, tls) = (Arc::clone(&shared), tls.clone());
        connections.spawn(async move {
            // However a connection ends: it is the other side's to notice.
            let _ = match tls {
                None => talk(BufReader::new(stream), number, &shared).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => talk(BufReader::new(stream), number, &shared).await,
                    Err(_) => Ok(()),
                },
            };
        });
    }
}

async fn talk<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: BufReader<S>,
    number: usize,
    shared: &Shared,
) -> Result<()> {
    while let Some(request) = read(&mut stream, number).await? {
        locked(&shared.seen).push(request.clone());
        let decide = Arc::clone(&locked(&shared.decide));
        let (status, kind, body) = match decide(&request) {
            Reply::Answer(status, kind, body) => (status, kind, body),
            Reply::Late(after, status, kind, body) => {
                tokio::time::sleep(after).await;
                (status, kind, body)
            }
            Reply::Held(gate, status, kind, body) => {
                gate.acquire().await?.forget();
                (status, kind, body)
            }
            Reply::Cut => return Ok(()),
            Reply::Half(status) => {
                let start = head(status, "application/json", 1000);
                stream.write_all(format!("{start}{{\"id\":").as_bytes()).await?;
                return Ok(stream.flush().await?);
            }
            Reply::Babble => {
                stream.write_all(b"SSH-2.0-OpenSSH_9.9\r\n").await?;
                return Ok(stream.flush().await?);
            }
            Reply::Silence => std::future::pending().await,
        };
        let start = head(status, kind, body.len());
        stream.write_all(format!("{start}{body}").as_bytes()).await?;
        stream.flush().await?;
    }
    Ok(())
}

fn head(status: u16, kind: &str, length: usize) -> String {
    format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\r\n")
}

/// The next request; none where the connection has ended.
async fn read<S: AsyncRead + Unpin>(
    stream: &mut BufReader<S>,
    connection: usize,
) -> Result<Option<Seen>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next(), words.next());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(Ok(0), |length| length.parse())?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let (method, path) = (method.context("a method")?, path.context("a path")?);
    Ok(Some(Seen { method, path, headers, body: String::from_utf8(body)?, connection }))
}
