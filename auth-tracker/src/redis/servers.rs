//! Which of several servers is asked: the one that takes writes. Whoever makes another one that (an
//! operator, Sentinel) need not tell us: after an error all are asked what they are.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures_util::future::join_all;
use redis::{
    Client, ConnectionInfo, IntoConnectionInfo as _, RedisError, TlsCertificates, Value,
    aio::{ConnectionManager, ConnectionManagerConfig},
};

use super::timely;
use crate::{addresses::of_each_host, ports::PortError};

/// How long an answer may take.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// No server was chosen yet.
const NONE: usize = usize::MAX;

struct Server {
    client: Client,
    connection: ConnectionManager,
}

/// The servers that an address names, and the one that is asked.
pub(super) struct Servers {
    first: Server,
    others: Vec<Server>,
    chosen: AtomicUsize,
}

impl Servers {
    /// Those that an address names. `authorities` (PEM) count for `rediss://`.
    pub(super) fn at(url: &str, authorities: Option<&[u8]>) -> Result<Self, RedisError> {
        let mut servers = Vec::new();
        for url in of_each_host(url) {
            servers.push(Server::at(&url, authorities)?);
        }
        let mut servers = servers.into_iter();
        let first = servers.next().ok_or((redis::ErrorKind::InvalidClientConfig, "no host"))?;
        Ok(Self { first, others: servers.collect(), chosen: AtomicUsize::new(NONE) })
    }

    /// The client of the one that is asked.
    pub(super) async fn client(&self) -> Client {
        self.chosen().await.client.clone()
    }

    /// The connection to the one that is asked.
    pub(super) async fn connection(&self) -> ConnectionManager {
        self.chosen().await.connection.clone()
    }

    /// Gives an answer on. After an error the next question may go to another server.
    pub(super) async fn unless<T>(&self, answer: Result<T, PortError>) -> Result<T, PortError> {
        if answer.is_err() {
            self.choose().await;
        }
        answer
    }

    async fn chosen(&self) -> &Server {
        if self.chosen.load(Ordering::Relaxed) == NONE {
            self.choose().await;
        }
        let number = self.chosen.load(Ordering::Relaxed);
        number.checked_sub(1).and_then(|number| self.others.get(number)).unwrap_or(&self.first)
    }

    /// The first that takes writes, where the present one does not. Stays where nobody does.
    async fn choose(&self) {
        if self.others.is_empty() {
            self.chosen.store(0, Ordering::Relaxed);
            return;
        }
        let all = std::iter::once(&self.first).chain(&self.others);
        let writable: Vec<bool> = join_all(all.map(Server::takes_writes)).await;
        let now = self.chosen.load(Ordering::Relaxed);
        if writable.get(now).copied().unwrap_or(false) {
            return;
        }
        if let Some(number) = writable.iter().position(|writable| *writable) {
            tracing::info!(server = number + 1, of = writable.len(), "this Redis is asked now");
            self.chosen.store(number, Ordering::Relaxed);
        }
    }
}

impl Server {
    fn at(url: &str, authorities: Option<&[u8]>) -> Result<Self, RedisError> {
        let info: ConnectionInfo = url.into_connection_info()?;
        let client = match authorities.filter(|_| url.starts_with("rediss://")) {
            Some(pem) => {
                let certificates =
                    TlsCertificates { client_tls: None, root_cert: Some(pem.to_vec()) };
                Client::build_with_tls(info, certificates)?
            }
            None => Client::open(info)?,
        };
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_min_delay(Duration::from_millis(50))
            .set_max_delay(Duration::from_millis(500))
            .set_number_of_retries(1);
        let connection = ConnectionManager::new_lazy_with_config(client.clone(), config)?;
        Ok(Self { client, connection })
    }

    /// Says that it is no replica. The rest of its answer differs from version to version.
    async fn takes_writes(&self) -> bool {
        let mut connection = self.connection.clone();
        let role: Result<Vec<Value>, _> =
            timely(redis::cmd("ROLE").query_async(&mut connection)).await;
        role.is_ok_and(
            |role| matches!(role.first(), Some(Value::BulkString(name)) if name == b"master"),
        )
    }
}
