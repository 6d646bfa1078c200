//! Asks an instance over HTTP whether it is well, the way HAProxy does: at the address that stands in
//! HAProxy's file.

use std::{path::PathBuf, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::timeout,
};

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(3);
/// As much of the answer as is read: its first line is what counts.
const MOST: u64 = 512;

/// Where an instance listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// Host and port.
    Tcp(String),
}

/// A question and where to ask it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Question {
    /// Where.
    pub address: Address,
    /// `GET`, `HEAD` or `OPTIONS`.
    pub method: String,
    /// The path asked for.
    pub path: String,
}

/// Asks once.
///
/// # Errors
/// In words: no connection, no answer in time, or an answer that is not 2xx or 3xx.
pub async fn ask(question: &Question) -> Result<(), String> {
    let asked = async {
        match &question.address {
            Address::Unix(path) => {
                exchange(
                    UnixStream::connect(path)
                        .await
                        .map_err(|error| format!("{}: {error}", path.display()))?,
                    question,
                )
                .await
            }
            Address::Tcp(at) => {
                exchange(
                    TcpStream::connect(at).await.map_err(|error| format!("{at}: {error}"))?,
                    question,
                )
                .await
            }
        }
    };
    timeout(LIMIT, asked)
        .await
        .unwrap_or_else(|_elapsed| Err(format!("no answer within {} s", LIMIT.as_secs())))
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    question: &Question,
) -> Result<(), String> {
    let request = format!(
        "{} {} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: quadletgen\r\nConnection: close\r\n\r\n",
        question.method, question.path
    );
    stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    let mut head = stream.take(MOST);
    while !answer.contains(&b'\n') {
        let read = head.read_buf(&mut answer).await.map_err(|error| error.to_string())?;
        if read == 0 {
            break;
        }
    }
    verdict(&String::from_utf8_lossy(&answer), &question.path)
}

fn verdict(answer: &str, path: &str) -> Result<(), String> {
    let line = answer.lines().next().unwrap_or_default();
    let mut words = line.split_ascii_whitespace();
    let status = words.next().filter(|word| word.starts_with("HTTP/1.")).and(words.next());
    match status {
        Some(status) if status.starts_with(['2', '3']) => Ok(()),
        Some(_) => Err(format!("{path} answered `{line}`")),
        None => Err(format!("{path}: the connection ended without an answer")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_asked_and_its_status_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let server = tokio::spawn(async move {
            for answer in
                ["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 503 Service Unavailable\r\n\r\n", ""]
            {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0_u8; 512];
                let _read = stream.read(&mut request).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let question = Question {
            address: Address::Unix(path),
            method: "HEAD".into(),
            path: "/health".into(),
        };
        assert_eq!(ask(&question).await, Ok(()));
        assert!(ask(&question).await.unwrap_err().contains("503"));
        assert!(ask(&question).await.unwrap_err().contains("without an answer"));
        server.await.unwrap();
        assert!(ask(&question).await.is_err());
    }
}
