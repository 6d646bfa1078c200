//! An instance as HAProxy sees one: it answers as a test says, counts what it was sent, and ends as
//! the service does.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, UnixListener},
    task::JoinHandle,
};

use crate::balancer::until;

/// What an instance does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// This status, with `ok` as the body.
    Status(u16),
    /// The same, after a while.
    Late(Duration),
    /// It ends the connection.
    Nothing,
    /// Pieces of a stream, so far apart.
    Stream { pieces: usize, apart: Duration },
}

pub(crate) struct Instance {
    shared: Arc<Shared>,
    listening: Mutex<Option<JoinHandle<()>>>,
    socket: Option<PathBuf>,
}

struct Shared {
    reply: Mutex<Reply>,
    /// The status that a check is answered with.
    health: AtomicU16,
    checks: AtomicUsize,
    under_way: AtomicUsize,
    heads: Mutex<Vec<String>>,
}

impl Instance {
    pub(crate) fn on_socket(path: PathBuf) -> Self {
        let listener = UnixListener::bind(&path).unwrap();
        let shared = Shared::new();
        let listening = tokio::spawn({
            let shared = shared.clone();
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(shared.clone().serve(stream));
                }
            }
        });
        Self { shared, listening: Mutex::new(Some(listening)), socket: Some(path) }
    }

    pub(crate) async fn on_port(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let shared = Shared::new();
        let listening = tokio::spawn({
            let shared = shared.clone();
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(shared.clone().serve(stream));
                }
            }
        });
        Self { shared, listening: Mutex::new(Some(listening)), socket: None }
    }

    pub(crate) fn replies(&self, reply: Reply) {
        *self.shared.reply.lock().unwrap() = reply;
    }

    /// The heads of all requests but checks.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.shared.heads.lock().unwrap().clone()
    }

    pub(crate) fn requests(&self) -> usize {
        self.heads().len()
    }

    /// Its health fails from now on; it takes requests nevertheless.
    pub(crate) fn drain(&self) {
        self.says_of_its_health(503);
    }

    /// What it answers to checks from now on.
    pub(crate) fn says_of_its_health(&self, status: u16) {
        self.shared.health.store(status, Ordering::SeqCst);
    }

    /// Takes no more connections, and ends what is under way.
    pub(crate) async fn end(&self) {
        let listening = self.listening.lock().unwrap().take();
        if let Some(listening) = listening {
            listening.abort();
            let _ = listening.await;
        }
        if let Some(path) = &self.socket {
            let _ = std::fs::remove_file(path);
        }
        until("ended its requests", async || self.shared.under_way.load(Ordering::SeqCst) == 0)
            .await;
    }
}

impl Shared {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            reply: Mutex::new(Reply::Status(200)),
            health: AtomicU16::new(200),
            checks: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            heads: Mutex::default(),
        })
    }

    async fn serve<S: AsyncRead + AsyncWrite + Unpin>(self: Arc<Self>, mut stream: S) {
        let mut buffer = Vec::new();
        while let Some(head) = next_request(&mut stream, &mut buffer).await {
            self.under_way.fetch_add(1, Ordering::SeqCst);
            let goes_on = self.answer(&mut stream, &head).await;
            self.under_way.fetch_sub(1, Ordering::SeqCst);
            if !goes_on {
                return;
            }
        }
    }

    async fn answer<S: AsyncWrite + Unpin>(&self, stream: &mut S, head: &str) -> bool {
        if head.starts_with("GET /health/ready ") {
            self.checks.fetch_add(1, Ordering::SeqCst);
            return write(stream, &whole(self.health.load(Ordering::SeqCst))).await;
        }
        self.heads.lock().unwrap().push(head.to_owned());
        let reply = self.reply.lock().unwrap().clone();
        match reply {
            Reply::Status(status) => write(stream, &whole(status)).await,
            Reply::Late(late) => {
                tokio::time::sleep(late).await;
                write(stream, &whole(200)).await
            }
            Reply::Nothing => false,
            Reply::Stream { pieces, apart } => {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\
                            transfer-encoding: chunked\r\n\r\n";
                let mut goes_on = write(stream, head).await;
                for _ in 0..pieces {
                    tokio::time::sleep(apart).await;
                    goes_on = goes_on && write(stream, "3\r\n:\r\n\r\n").await;
                }
                goes_on && write(stream, "0\r\n\r\n").await
            }
        }
    }
}

fn whole(status: u16) -> String {
    format!("HTTP/1.1 {status} As told\r\ncontent-length: 2\r\n\r\nok")
}

async fn write<S: AsyncWrite + Unpin>(stream: &mut S, text: &str) -> bool {
    stream.write_all(text.as_bytes()).await.is_ok()
}

/// The head of the next request, in small letters but for its first line; its body is swallowed.
async fn next_request<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut Vec<u8>,
) -> Option<String> {
    loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(": ")?;
                name.eq_ignore_ascii_case("content-length").then(|| value.parse().ok())?
            });
            let whole = end + 4 + length.unwrap_or(0_usize);
            while buffer.len() < whole {
                (stream.read_buf(buffer).await.ok()? > 0).then_some(())?;
            }
            buffer.drain(..whole);
            return Some(head);
        }
        (stream.read_buf(buffer).await.ok()? > 0).then_some(())?;
    }
}
