//! Redis: the connection, and what is asked over it. Every question has a time limit; a connection
//! that broke comes back by itself, and whoever asked meanwhile gets an error.
//!
//! `board` has the snapshot, `times` the last-authentication keys. Redis holds nothing that
//! cannot be made again, except for times that the tracker has not written down yet.

mod board;
mod times;

use std::time::Duration;

use redis::{
    Client, Cmd, ConnectionInfo, FromRedisValue, IntoConnectionInfo as _, Pipeline, RedisError,
    TlsCertificates,
    aio::{ConnectionManager, ConnectionManagerConfig},
};

pub use board::{Published, Wants};
pub use times::Taken;

use crate::ports::PortError;

/// How long an answer may take.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The most that a question may take, with a new connection.
const TIMEOUT: Duration = Duration::from_millis(2_500);

/// Why Redis cannot be used at all. Never contains the address, which may contain a password.
#[derive(Debug, thiserror::Error)]
#[error(
    "REDIS_URL cannot be used: {0}; allowed: redis://[user:password@]host[:port][/database], or \
     rediss:// with TLS"
)]
pub struct SetupError(String);

/// The Redis of the authentication state.
#[derive(Clone)]
pub struct AuthRedis {
    client: Client,
    connection: ConnectionManager,
}

impl std::fmt::Debug for AuthRedis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthRedis").finish_non_exhaustive()
    }
}

impl AuthRedis {
    /// Uses this server from the first question on; nothing is asked yet. `authorities` (PEM) are
    /// those its certificate must lead to, instead of the system's. Needs a runtime.
    ///
    /// # Errors
    /// When the address is not one, or the authorities are not certificates.
    pub fn at(url: &str, authorities: Option<Vec<u8>>) -> Result<Self, SetupError> {
        let unusable = |error: RedisError| SetupError(plain(&error));
        let info: ConnectionInfo = url.into_connection_info().map_err(unusable)?;
        let client = match authorities.filter(|_| url.starts_with("rediss://")) {
            Some(pem) => {
                let certificates = TlsCertificates { client_tls: None, root_cert: Some(pem) };
                Client::build_with_tls(info, certificates)
            }
            None => Client::open(info),
        };
        let client = client.map_err(unusable)?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_min_delay(Duration::from_millis(50))
            .set_max_delay(Duration::from_millis(500))
            .set_number_of_retries(1);
        let connection =
            ConnectionManager::new_lazy_with_config(client.clone(), config).map_err(unusable)?;
        Ok(Self { client, connection })
    }

    /// It answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), PortError> {
        self.ask::<String>(&redis::cmd("PING")).await.map(drop)
    }

    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, PortError> {
        let mut connection = self.connection.clone();
        timely(command.query_async(&mut connection)).await
    }

    async fn ask_all<T: FromRedisValue>(&self, commands: &Pipeline) -> Result<T, PortError> {
        let mut connection = self.connection.clone();
        timely(commands.query_async(&mut connection)).await
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
