//! Redis: the connection, and what is asked over it. Every question has a time limit; a connection
//! that broke comes back by itself, and whoever asked meanwhile gets an error.
//!
//! `servers` knows which of several is asked, `board` has the snapshot, `times` the
//! last-authentication keys, `turns` a limit that instances share. Redis holds nothing that cannot be
//! made again, except for times that the tracker has not written down yet.

mod board;
mod servers;
mod times;
mod turns;

use std::{sync::Arc, time::Duration};

use redis::{Cmd, FromRedisValue, Pipeline, RedisError};

pub use board::{Published, Wants};
pub use times::Taken;

use crate::ports::PortError;
use servers::Servers;

/// The most that a question may take, with a new connection.
const TIMEOUT: Duration = Duration::from_millis(2_500);

/// Why Redis cannot be used at all. Never contains the address, which may contain a password.
#[derive(Debug, thiserror::Error)]
#[error(
    "REDIS_URL cannot be used: {0}; allowed: redis://[user:password@]host[:port][,host…][/database], \
     or rediss:// with TLS"
)]
pub struct SetupError(String);

/// The Redis of the authentication state.
#[derive(Clone)]
pub struct AuthRedis {
    servers: Arc<Servers>,
}

impl std::fmt::Debug for AuthRedis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthRedis").finish_non_exhaustive()
    }
}

impl AuthRedis {
    /// Uses this server from the first question on; nothing is asked yet. Where the address names
    /// several hosts, the one that takes writes is asked. `authorities` (PEM) are those its
    /// certificate must lead to, instead of the system's. Needs a runtime.
    ///
    /// # Errors
    /// When the address is not one, or the authorities are not certificates.
    pub fn at(url: &str, authorities: Option<Vec<u8>>) -> Result<Self, SetupError> {
        let servers = Servers::at(url, authorities.as_deref());
        let servers = servers.map_err(|error| SetupError(plain(&error)))?;
        Ok(Self { servers: Arc::new(servers) })
    }

    /// It answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), PortError> {
        self.ask::<String>(&redis::cmd("PING")).await.map(drop)
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, PortError> {
        let mut connection = self.servers.connection().await;
        let answer = timely(command.query_async(&mut connection)).await;
        self.servers.unless(answer).await
    }

    async fn ask_all<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T, PortError> {
        let mut connection = self.servers.connection().await;
        let answer = timely(commands.query_async(&mut connection)).await;
        self.servers.unless(answer).await
    }
}

async fn timely<T>(asked: impl Future<Output = Result<T, RedisError>>) -> Result<T, PortError> {
    match tokio::time::timeout(TIMEOUT, asked).await {
        Ok(answer) => answer.map_err(|error| PortError(plain(&error))),
        Err(_) => Err(PortError("it did not answer in time".to_owned())),
    }
}

/// What went wrong, without what was asked.
fn plain(error: &RedisError) -> String {
    let detail = error.detail().filter(|detail| !detail.contains("://"));
    match (error.code(), detail) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        (None, Some(detail)) => format!("{:?}: {detail}", error.kind()),
        _ if error.is_io_error() => error.to_string(),
        _ => format!("{:?}", error.kind()),
    }
}
