//! A web server that answers each path with what a test says, and counts.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::task::AbortOnDropHandle;

type Pages = Arc<Mutex<BTreeMap<String, (Vec<Vec<u8>>, usize)>>>;

/// The server; it ends with this value.
pub(crate) struct Web {
    pages: Pages,
    address: String,
    _task: AbortOnDropHandle<()>,
}

impl Web {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let pages = Pages::default();
        let served = Arc::clone(&pages);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&served)));
            }
        });
        Self { pages, address, _task: AbortOnDropHandle::new(task) }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Answers this path with these answers, the last of them for ever.
    pub(crate) fn answers(&self, path: &str, answers: &[(&str, &str, &[u8])]) -> String {
        let page = answers.iter().map(|(status, headers, body)| {
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n");
            [head.as_bytes(), body].concat()
        });
        self.pages.lock().unwrap().insert(path.to_owned(), (page.collect(), 0));
        self.url(path)
    }

    /// Serves a playbook.
    pub(crate) fn playbook(&self, path: &str, text: &str) -> String {
        self.answers(path, &[("200 OK", "Content-Type: application/yaml\r\n", text.as_bytes())])
    }

    /// How often a path was asked for.
    pub(crate) fn count(&self, path: &str) -> usize {
        self.pages.lock().unwrap()[path].1
    }
}

async fn serve(mut stream: TcpStream, pages: Pages) {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut request).await.unwrap_or_default() == 0 {
            return;
        }
    }
    let request = String::from_utf8(request).unwrap();
    let path = request.split(' ').nth(1).unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default();
    let answer = match pages.lock().unwrap().get_mut(path) {
        Some((answers, count)) => {
            *count += 1;
            answers.get(*count - 1).or(answers.last()).cloned()
        }
        None => None,
    };
    let missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    // A client that hangs up early is part of some tests.
    drop(stream.write_all(&answer.unwrap_or_else(|| missing.to_vec())).await);
    drop(stream.shutdown().await);
}
