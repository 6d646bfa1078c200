//! A Redis of a test's own: its directory, its free loopback port, gone with the test's process.
//! Killed, halted and started again on the same port as a test wants, with or without what it held.

use std::{fmt::Write as _, path::PathBuf, process::Command};

use anyhow::{Context, Result};
use redis::aio::MultiplexedConnection;

use crate::{
    authority::Authority,
    guarded::{Guarded, directory, program},
    ports,
};

/// What a Redis is like.
#[derive(Default)]
pub struct Options<'a> {
    /// Asked of everybody who connects.
    pub password: Option<&'a str>,
    /// Who signs its certificate, where it speaks TLS (and nothing else).
    pub authority: Option<&'a Authority>,
}

/// A running Redis.
pub struct PrivateRedis {
    guarded: Guarded,
    port: u16,
    password: Option<String>,
    authority: Option<PathBuf>,
}

impl PrivateRedis {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// When Redis is not installed or does not start; says what to install.
    pub async fn start() -> Result<Self> {
        Self::start_with(&Options::default()).await
    }

    /// The same with a password, or TLS.
    ///
    /// # Errors
    /// When Redis is not installed or does not start; says what to install.
    pub async fn start_with(options: &Options<'_>) -> Result<Self> {
        let server = program(
            "redis-server",
            &[],
            "install redis-server (Debian, Ubuntu) or redis (Fedora)",
        )?;
        let (directory, port) = (directory("redis")?, ports::free()?);
        let path = directory.path();
        // What was answered is on the disk before, so that a kill loses nothing of it.
        let mut config = format!(
            "bind 127.0.0.1\ndir {}\nsave \"\"\nappendonly yes\nappendfsync always\n\
             auto-aof-rewrite-percentage 0\n",
            path.display()
        );
        if let Some(password) = options.password {
            writeln!(config, "requirepass {password}")?;
        }
        let mut authority = None;
        if let Some(signer) = options.authority {
            let files = signer.issue(path, &["localhost", "127.0.0.1"])?;
            writeln!(
                config,
                "port 0\ntls-port {port}\ntls-auth-clients no\ntls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}",
                files.certificate.display(),
                files.key.display(),
                files.authority.display()
            )?;
            authority = Some(files.authority);
        } else {
            writeln!(config, "port {port}")?;
        }
        let file = path.join("redis.conf");
        std::fs::write(&file, config)?;
        let mut command = Command::new(server);
        command.arg(file);
        let guarded = Guarded::new(directory, &command, "")?;
        let password = options.password.map(str::to_owned);
        let redis = Self { guarded, port, password, authority };
        redis.restart().await?;
        Ok(redis)
    }

    /// Its address, with the password.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.authority.is_some() { "rediss" } else { "redis" };
        let user = self.password.as_ref().map(|it| format!(":{it}@")).unwrap_or_default();
        format!("{scheme}://{user}127.0.0.1:{}/0", self.port)
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate of the authority to check it by, where it speaks TLS.
    #[must_use]
    pub fn authority(&self) -> Option<&PathBuf> {
        self.authority.as_ref()
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> &Guarded {
        &self.guarded
    }

    /// Starts it again with everything it had answered for, and waits until it answers.
    ///
    /// # Errors
    /// When it runs, or does not start.
    pub async fn restart(&self) -> Result<()> {
        self.guarded.start()?;
        self.guarded.until("answered", async || self.client().await.is_ok()).await
    }

    /// Starts it again empty, and waits until it answers.
    ///
    /// # Errors
    /// When it runs, or does not start.
    pub async fn restart_empty(&self) -> Result<()> {
        let kept = self.guarded.directory().join("appendonlydir");
        std::fs::remove_dir_all(&kept).with_context(|| kept.display().to_string())?;
        self.restart().await
    }

    /// A connection past the service.
    ///
    /// # Errors
    /// When there is none.
    pub async fn client(&self) -> Result<MultiplexedConnection> {
        let client = match &self.authority {
            None => redis::Client::open(self.url())?,
            Some(file) => redis::Client::build_with_tls(
                self.url(),
                redis::TlsCertificates { client_tls: None, root_cert: Some(std::fs::read(file)?) },
            )?,
        };
        let mut connection = client.get_multiplexed_async_connection().await?;
        redis::cmd("PING").query_async::<String>(&mut connection).await?;
        Ok(connection)
    }

    /// Makes it a replica of another one, or what takes writes.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn follow(&self, other: Option<&Self>) -> Result<()> {
        let mut command = redis::cmd("REPLICAOF");
        match other {
            Some(other) => command.arg("127.0.0.1").arg(other.port),
            None => command.arg("NO").arg("ONE"),
        };
        Ok(command.query_async(&mut self.client().await?).await?)
    }

    /// Makes it forget everything.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn flush(&self) -> Result<()> {
        let mut client = self.client().await?;
        Ok(redis::cmd("FLUSHALL").query_async(&mut client).await?)
    }
}
