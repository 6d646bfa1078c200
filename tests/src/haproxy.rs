//! An HAProxy of a test's own, in front of instances: a generated file, health checks on
//! `/health/ready`, its runtime socket, gone with the test's process.
//!
//! A request that reached an instance is never sent again, unless it changes nothing: only a
//! connection that was not made is tried elsewhere, for every method.

use std::{fmt::Write as _, net::SocketAddr, process::Command, time::Duration};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
};

use crate::{
    authority::CertificateFiles,
    guarded::{Guarded, directory, program},
    ports,
};

/// The name of the backend in the runtime socket.
pub const BACKEND: &str = "instances";
/// How often health is checked.
const INTERVAL: Duration = Duration::from_millis(500);

/// A running HAProxy.
pub struct PrivateHaproxy {
    guarded: Guarded,
    port: u16,
}

impl PrivateHaproxy {
    /// Starts one in front of these instances, which need not be there, and waits until it takes
    /// connections.
    ///
    /// # Errors
    /// When HAProxy is not installed or does not start; says what to install.
    pub async fn start(instances: &[SocketAddr]) -> Result<Self> {
        Self::start_with(instances, Duration::from_secs(150)).await
    }

    /// The same, and a request that no instance answers within this time is answered with 504;
    /// what waits or streams on purpose may be silent for longer.
    ///
    /// # Errors
    /// When HAProxy is not installed or does not start; says what to install.
    pub async fn start_with(instances: &[SocketAddr], answer: Duration) -> Result<Self> {
        Self::start_at(instances, answer, None).await
    }

    /// One that takes connections over TLS only, by this certificate.
    ///
    /// # Errors
    /// When HAProxy is not installed or does not start; says what to install.
    pub async fn start_tls(
        instances: &[SocketAddr],
        certificate: &CertificateFiles,
    ) -> Result<Self> {
        Self::start_at(instances, Duration::from_secs(150), Some(certificate)).await
    }

    async fn start_at(
        instances: &[SocketAddr],
        answer: Duration,
        certificate: Option<&CertificateFiles>,
    ) -> Result<Self> {
        let install = "install haproxy (Debian, Ubuntu, Fedora)";
        let server = program("haproxy", &[], install)?;
        let (directory, port) = (directory("haproxy")?, ports::free()?);
        let socket = directory.path().join("socket");
        let file = directory.path().join("haproxy.cfg");
        let mut bind = format!("127.0.0.1:{port}");
        if let Some(files) = certificate {
            let pem = directory.path().join("haproxy.pem");
            let parts = [std::fs::read(&files.certificate)?, std::fs::read(&files.key)?];
            std::fs::write(&pem, parts.concat())?;
            write!(bind, " ssl crt {}", pem.display())?;
        }
        let config = configuration(&socket.display().to_string(), &bind, instances, answer)?;
        std::fs::write(&file, config)?;
        let mut command = Command::new(server);
        command.args(["-db", "-f"]).arg(file);
        let haproxy = Self { guarded: Guarded::new(directory, &command, "")?, port };
        haproxy.restart().await?;
        Ok(haproxy)
    }

    /// Its address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The port on which it takes connections.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> &Guarded {
        &self.guarded
    }

    /// Starts it again, and waits until it takes connections.
    ///
    /// # Errors
    /// When it runs, or does not start.
    pub async fn restart(&self) -> Result<()> {
        self.guarded.start()?;
        let listens = async || TcpStream::connect(("127.0.0.1", self.port)).await.is_ok();
        self.guarded.until("took connections", listens).await
    }

    /// What the runtime socket answers to a command.
    ///
    /// # Errors
    /// When it does not.
    pub async fn runtime(&self, command: &str) -> Result<String> {
        let socket = self.guarded.directory().join("socket");
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(format!("{command}\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// How many instances are up.
    ///
    /// # Errors
    /// When the runtime socket does not answer.
    pub async fn up(&self) -> Result<usize> {
        let table = self.runtime("show stat").await?;
        let mut lines = table.trim_start_matches("# ").lines();
        let head: Vec<&str> = lines.next().context("a table with a head")?.split(',').collect();
        let column = |name| head.iter().position(|it| *it == name).context("a known column");
        let (proxy, server, status) = (column("pxname")?, column("svname")?, column("status")?);
        let is_up = |line: &&str| {
            let cells: Vec<&str> = line.split(',').collect();
            let cell = |at: usize| cells.get(at).copied().unwrap_or_default();
            cell(proxy) == BACKEND && cell(server) != "BACKEND" && cell(status).starts_with("UP")
        };
        Ok(lines.filter(is_up).count())
    }

    /// Waits until so many instances are up.
    ///
    /// # Errors
    /// When they are not, in time.
    pub async fn until_up(&self, wanted: usize) -> Result<()> {
        let what = format!("had {wanted} instances up");
        self.guarded.until(&what, async || self.up().await.is_ok_and(|up| up == wanted)).await
    }
}

fn configuration(
    socket: &str,
    bind: &str,
    instances: &[SocketAddr],
    answer: Duration,
) -> Result<String> {
    let (interval, answer) = (INTERVAL.as_millis(), answer.as_millis());
    let mut config = format!(
        "global
    stats socket {socket} mode 600 level admin
    maxconn 5000
defaults
    mode http
    timeout connect 1s
    timeout client 150s
    timeout server {answer}ms
    timeout check 4s
    timeout http-request 10s
    timeout http-keep-alive 30s
    timeout queue 2s
frontend entrance
    bind {bind}
    default_backend {BACKEND}
backend {BACKEND}
    balance roundrobin
    retries 3
    option redispatch 1
    retry-on conn-failure empty-response 502 503
    http-request disable-l7-retry unless {{ method GET HEAD }}
    http-request set-timeout server 150s if {{ path_end /execution/wait /log }}
    option httpchk GET /health/ready
    http-check expect status 200
    default-server check inter {interval} fastinter 200 downinter 200 fall 2 rise 1
"
    );
    for (index, instance) in instances.iter().enumerate() {
        writeln!(config, "    server instance-{index} {instance}")?;
    }
    Ok(config)
}
