//! A proxy on the way out, as companies have them: it makes tunnels (`CONNECT`) to whatever host it is
//! asked for, all of which are this machine, for those who know its user and password.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
};

/// Its user and password.
const CREDENTIALS: &str = "worker:hunter2";

/// A proxy. Ends with the test.
pub struct ForwardProxy {
    port: u16,
    targets: Arc<Mutex<Vec<String>>>,
}

impl ForwardProxy {
    /// Starts one.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (port, targets) = (listener.local_addr()?.port(), Arc::<Mutex<Vec<_>>>::default());
        let own = Arc::clone(&targets);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let targets = Arc::clone(&own);
                // A tunnel that breaks is what its ends see.
                tokio::spawn(async move { drop(tunnel(stream, &targets).await) });
            }
        });
        Ok(Self { port, targets })
    }

    /// Its address, with user and password.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{CREDENTIALS}@127.0.0.1:{}", self.port)
    }

    /// Where tunnels were made to, `host:port`.
    #[must_use]
    pub fn targets(&self) -> Vec<String> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn tunnel(stream: TcpStream, targets: &Mutex<Vec<String>>) -> Result<()> {
    let mut client = BufReader::new(stream);
    let (mut head, wanted) = (Vec::new(), BASE64_STANDARD.encode(CREDENTIALS));
    loop {
        let mut line = String::new();
        ensure!(client.read_line(&mut line).await? > 0, "the head of a request has an end");
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_owned());
    }
    let first = head.first().context("a request has a first line")?;
    let target = first.strip_prefix("CONNECT ").and_then(|rest| rest.split(' ').next());
    let target = target.context("only tunnels are made")?.to_owned();
    if !head.iter().any(|line| line.ends_with(&format!("Basic {wanted}"))) {
        let refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n";
        client.write_all(refusal).await?;
        return Ok(());
    }
    let port = target.rsplit(':').next().context("a target has a port")?.parse()?;
    targets.lock().unwrap_or_else(PoisonError::into_inner).push(target);
    let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
