//! A client that sends exactly what a test says, and reads whole answers.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// A whole answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        header(&self.head, name)
    }
}

/// A header's value in a head.
pub(crate) fn header(head: &str, name: &str) -> Option<String> {
    let values = head.lines().filter_map(|line| {
        let (found, value) = line.split_once(": ")?;
        found.eq_ignore_ascii_case(name).then(|| value.to_owned())
    });
    let values: Vec<String> = values.collect();
    assert!(values.len() < 2, "{name} is there several times: {head}");
    values.into_iter().next()
}

/// A connection that is kept.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn to(port: u16) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    pub(crate) async fn send(&mut self, text: &str) -> Option<()> {
        self.stream.write_all(text.as_bytes()).await.ok()
    }

    /// Sends a request and reads the whole answer; nothing when there is none.
    pub(crate) async fn request(&mut self, text: &str) -> Option<Answer> {
        self.send(text).await?;
        self.answer().await
    }

    /// Sends a HEAD; the status of its answer.
    pub(crate) async fn status_of_head(&mut self, text: &str) -> Option<u16> {
        self.send(text).await?;
        let end = self.until(b"\r\n\r\n").await?;
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        head.split(' ').nth(1)?.parse().ok()
    }

    /// The next whole answer; nothing when the connection ends before.
    pub(crate) async fn answer(&mut self) -> Option<Answer> {
        timeout(Duration::from_secs(30), self.read()).await.expect("an answer within 30 seconds")
    }

    async fn read(&mut self) -> Option<Answer> {
        let end = self.until(b"\r\n\r\n").await?;
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        self.buffer.drain(..end);
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let body = if header(&head, "transfer-encoding").is_some() {
            self.chunks().await?
        } else if let Some(length) = header(&head, "content-length") {
            self.exactly(length.parse().ok()?).await?
        } else {
            Vec::new()
        };
        let body = String::from_utf8_lossy(&body).into_owned();
        Some(Answer { status, head, body })
    }

    async fn chunks(&mut self) -> Option<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let end = self.until(b"\r\n").await?;
            let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
            self.buffer.drain(..end);
            let length = usize::from_str_radix(line.trim(), 16).ok()?;
            let chunk = self.exactly(length + 2).await?;
            if length == 0 {
                return Some(body);
            }
            body.extend_from_slice(&chunk[..length]);
        }
    }

    async fn exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < length {
            self.more().await?;
        }
        Some(self.buffer.drain(..length).collect())
    }

    async fn until(&mut self, mark: &[u8]) -> Option<usize> {
        loop {
            let found = self.buffer.windows(mark.len()).position(|part| part == mark);
            if let Some(at) = found {
                return Some(at + mark.len());
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Option<()> {
        let read = self.stream.read_buf(&mut self.buffer).await.ok()?;
        (read > 0).then_some(())
    }
}

/// A request without a body, or with one of two bytes.
pub(crate) fn request(method: &str, path: &str, headers: &str) -> String {
    let body = if method == "POST" { ("content-length: 2\r\n", "{}") } else { ("", "") };
    format!("{method} {path} HTTP/1.1\r\nhost: test\r\n{headers}{}\r\n{}", body.0, body.1)
}

/// One request on a connection of its own.
pub(crate) async fn once(port: u16, method: &str, path: &str, headers: &str) -> Answer {
    let mut connection = Connection::to(port).await.unwrap();
    connection.request(&request(method, path, headers)).await.expect("a whole answer")
}
