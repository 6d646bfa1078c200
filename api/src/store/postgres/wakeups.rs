//! [`WakeupStore`] by NOTIFY and LISTEN.
//!
//! A NOTIFY holds a lock of the whole database until its commit, so it is a transaction of its own
//! that does not even wait for the disk: what is lost with the server was a hint.

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_postgres::Client;

use super::{PostgresStore, connection::one, fault::Fault, servers::Purpose};
use crate::store::{
    StoreResult,
    wakeups::{Ear, WakeupStore},
};

/// Where instances of one database hear each other.
const CHANNEL: &str = "dispatcher_wakeups";
/// What the connection is called in the server's list.
const NAME: &str = "dispatcher-api wake-ups";
/// The most messages that wait to be read; more are dropped.
const MOST_WAITING: usize = 1024;

#[async_trait]
impl WakeupStore for PostgresStore {
    async fn notify(&self, message: &str) -> StoreResult<()> {
        const NOTIFY: &str =
            "SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2)";
        self.retrying(|| async { one(&self.client().await?, NOTIFY, &[&CHANNEL, &message]).await })
            .await?;
        Ok(())
    }

    async fn listen(&self) -> StoreResult<Box<dyn Ear>> {
        let listening = async {
            let (arrived, messages) = mpsc::channel(MOST_WAITING);
            let purpose = Purpose { name: NAME, heard: Some(arrived) };
            let (client, _) = self.servers().connect_for(&purpose).await?;
            let listen = format!("LISTEN {CHANNEL}");
            client.batch_execute(&listen).await.map_err(Fault::from)?;
            Ok(Box::new(Listening { messages, _client: client }) as Box<dyn Ear>)
        };
        let late = |_| Err(Fault::late("no connection to listen on came about in time").into());
        tokio::time::timeout(self.servers().patience(), listening).await.unwrap_or_else(late)
    }
}

struct Listening {
    messages: mpsc::Receiver<String>,
    /// The connection ends with its client.
    _client: Client,
}

#[async_trait]
impl Ear for Listening {
    async fn next(&mut self) -> StoreResult<String> {
        let ended = || Fault::late("the connection for wake-ups has ended").into();
        self.messages.recv().await.ok_or_else(ended)
    }
}
