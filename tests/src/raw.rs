//! HTTP by hand, for what a client library would not send or would hide.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

/// An answer as it came over the wire.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The head, status line included.
    pub head: String,
    /// The body, chunks put together.
    pub body: String,
}

impl Answer {
    /// The value of a header, by its name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// Sends bytes to `http://host:port` and reads until the other side closes.
///
/// # Errors
/// When the connection fails, is not closed in time, or no HTTP comes back.
pub async fn send(url: &str, request: &[u8]) -> Result<Answer> {
    let address = url.strip_prefix("http://").context("an http address")?;
    exchange(TcpStream::connect(address).await?, request).await
}

/// The same over any connection.
///
/// # Errors
/// When the connection fails, is not closed in time, or no HTTP comes back.
pub async fn exchange<S>(mut stream: S, request: &[u8]) -> Result<Answer>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(request).await?;
    let mut bytes = Vec::new();
    let reading = stream.read_to_end(&mut bytes);
    tokio::time::timeout(Duration::from_secs(60), reading).await??;
    parse(&String::from_utf8(bytes)?)
}

fn parse(text: &str) -> Result<Answer> {
    let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("no head: {text}"))?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok(Answer { status, head: head.to_owned(), body: body.to_owned() })
}
