//! A consumer of the service's events: a durable queue of its own, bound to the topic exchanges,
//! and everything that ever came out of it. Comes back by itself when the broker does.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use futures_util::StreamExt as _;
use lapin::{
    BasicProperties, Connection, ExchangeKind,
    options::{
        BasicAckOptions, BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions,
        QueueDeclareOptions,
    },
    types::FieldTable,
};
use serde_json::Value;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::{
    process::PATIENCE,
    rabbitmq::{ANSWER, PrivateRabbit, connect},
};

/// The exchanges that events come from.
pub const EXCHANGES: [&str; 2] =
    ["platform.playbook-dispatcher.runs", "platform.playbook-dispatcher.run-hosts"];
/// How long a consumer waits before it tries to connect again.
const AGAIN: Duration = Duration::from_millis(100);

/// A message as it came.
#[derive(Clone, Debug)]
pub struct Message {
    /// The exchange that it was published to.
    pub exchange: String,
    /// Its routing key.
    pub key: String,
    /// Whether the broker says that it may have been delivered before.
    pub redelivered: bool,
    /// Its headers and other properties.
    pub properties: BasicProperties,
    /// Its body.
    pub body: Vec<u8>,
}

impl Message {
    /// Its body as JSON.
    ///
    /// # Errors
    /// When it is not.
    pub fn json(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&self.body)?)
    }

    /// A header, as JSON.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<Value> {
        let headers = self.properties.headers().as_ref()?;
        let value = headers.inner().get(name)?;
        if let Some(text) = value.as_long_string() {
            return Some(Value::String(text.to_string()));
        }
        serde_json::to_value(value).ok()?.as_object()?.values().next().cloned()
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> Option<String> {
        self.properties.message_id().as_ref().map(ToString::to_string)
    }
}

/// A running consumer. Ends when dropped.
pub struct Consumer {
    messages: Arc<Mutex<Vec<Message>>>,
    task: JoinHandle<()>,
}

impl Consumer {
    /// Makes a queue, binds it to every event, and collects from then on.
    ///
    /// # Errors
    /// When the broker is not there.
    pub async fn start(rabbit: &PrivateRabbit) -> Result<Self> {
        let (url, authority) = (rabbit.url(), rabbit.authority());
        let queue = format!("tests-{}", Uuid::new_v4().simple());
        let messages = Arc::<Mutex<Vec<Message>>>::default();
        // Bound before anybody publishes: what comes without a queue is lost.
        let first = connect(&url, authority.clone(), PATIENCE).await?;
        bind(&first, &queue).await?;
        let collected = Arc::clone(&messages);
        let task = tokio::spawn(async move {
            let mut connection = Some(first);
            loop {
                if let Some(connection) = connection.take() {
                    // Ends when the broker goes away, which is what comes next in these tests.
                    drop(collect(&connection, &queue, &collected).await);
                }
                tokio::time::sleep(AGAIN).await;
                connection = connect(&url, authority.clone(), ANSWER).await.ok();
            }
        });
        Ok(Self { messages, task })
    }

    /// Everything that has come so far, in its order, repetitions too.
    #[must_use]
    pub fn messages(&self) -> Vec<Message> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until what has come is enough.
    ///
    /// # Errors
    /// When it is not, in time; says what has come.
    pub async fn until(&self, is_enough: impl Fn(&[Message]) -> bool) -> Result<Vec<Message>> {
        let started = Instant::now();
        loop {
            let messages = self.messages();
            if is_enough(&messages) {
                return Ok(messages);
            }
            if started.elapsed() > PATIENCE {
                let keys: Vec<_> = messages.iter().map(|message| &message.key).collect();
                bail!("{} messages in {PATIENCE:?} are not enough: {keys:?}", messages.len());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn bind(connection: &Connection, queue: &str) -> Result<()> {
    let channel = connection.create_channel().await?;
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), options, FieldTable::default()).await?;
    for exchange in EXCHANGES {
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let kind = ExchangeKind::Topic;
        channel.exchange_declare(exchange.into(), kind, options, FieldTable::default()).await?;
        let options = QueueBindOptions::default();
        let arguments = FieldTable::default();
        channel.queue_bind(queue.into(), exchange.into(), "#".into(), options, arguments).await?;
    }
    Ok(())
}

async fn collect(
    connection: &Connection,
    queue: &str,
    messages: &Mutex<Vec<Message>>,
) -> Result<()> {
    let consuming = async {
        let channel = connection.create_channel().await?;
        let options = BasicConsumeOptions::default();
        channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await
    };
    // The client waits for a broker that went away in between without end.
    let mut consumer = tokio::time::timeout(ANSWER, consuming).await??;
    while let Some(delivery) = consumer.next().await {
        let delivery = delivery?;
        let message = Message {
            exchange: delivery.exchange.to_string(),
            key: delivery.routing_key.to_string(),
            redelivered: delivery.redelivered,
            properties: delivery.properties.clone(),
            body: delivery.data.clone(),
        };
        messages.lock().unwrap_or_else(PoisonError::into_inner).push(message);
        delivery.ack(BasicAckOptions::default()).await?;
    }
    Ok(())
}
