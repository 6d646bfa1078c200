//! RabbitMQ as the broker: durable topic exchanges, persistent messages, publisher confirms.
//!
//! The client waits without end where a server hangs, so that every step has a timeout here, and a
//! line that is given up takes its socket down with it: otherwise each try would leave a thread.

use std::{
    fmt,
    net::{Shutdown, SocketAddr, TcpStream},
    os::fd::AsFd as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use auth_tracker::addresses::of_each_host;
use lapin::{
    AsyncTcpStream, BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind,
    options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions},
    tcp::RustlsConnector,
    types::{AMQPValue, FieldTable, LongString},
    uri::{AMQPScheme, AMQPUri},
};

use super::broker::{Broker, BrokerError, Line};
use crate::events::message::{Header, Message, RUN_HOSTS, RUNS};

/// Between two signs of life, in seconds; two that are missing end the connection.
const HEARTBEAT: u16 = 10;
/// How long a polite end may take.
const CLOSING: Duration = Duration::from_secs(1);
/// The delivery mode of messages that outlive the server.
const PERSISTENT: u8 = 2;

/// A RabbitMQ, of one server or several.
pub struct AmqpBroker {
    servers: Vec<AMQPUri>,
    /// The one that is tried first: that which was there the last time.
    first: AtomicUsize,
    name: String,
    timeout: Duration,
    tls: Arc<rustls::ClientConfig>,
}

impl fmt::Debug for AmqpBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places: Vec<String> = self.servers.iter().map(place).collect();
        write!(f, "AmqpBroker({})", places.join(","))
    }
}

fn place(uri: &AMQPUri) -> String {
    format!("{}:{}", uri.authority.host, uri.authority.port)
}

impl AmqpBroker {
    /// The one at an address. `name` is what its operator sees; `timeout` is how long each step may
    /// take; `tls` says whom to trust.
    ///
    /// # Errors
    /// When the address cannot be understood; the text does not quote it.
    pub fn at(
        url: &str,
        name: &str,
        timeout: Duration,
        tls: Arc<rustls::ClientConfig>,
    ) -> Result<Self, BrokerError> {
        let unusable = |_| {
            let allowed =
                "amqp://user:password@host:port[,host:port…]/vhost (special characters as %XX)";
            BrokerError(format!("AMQP_URL cannot be understood; allowed: {allowed}, or amqps://"))
        };
        let mut servers = Vec::new();
        for url in of_each_host(url) {
            let mut uri: AMQPUri = url.parse().map_err(unusable)?;
            uri.query.heartbeat.get_or_insert(HEARTBEAT);
            servers.push(uri);
        }
        Ok(Self { servers, first: AtomicUsize::new(0), name: name.to_owned(), timeout, tls })
    }

    /// A line to one server, within the time that each step has.
    async fn line_to(&self, uri: &AMQPUri) -> Result<AmqpLine, BrokerError> {
        let socket = Socket::default();
        let mut unless_open = GiveUp(Some(socket.clone()));
        match tokio::time::timeout(self.timeout, self.line(uri, socket)).await {
            Ok(Ok(line)) => {
                unless_open.0 = None;
                Ok(line)
            }
            Ok(Err(error)) => Err(BrokerError(error.to_string())),
            Err(_) => Err(BrokerError(format!("no connection within {:?}", self.timeout))),
        }
    }

    async fn line(&self, uri: &AMQPUri, socket: Socket) -> Result<AmqpLine, lapin::Error> {
        let options = ConnectionProperties::default()
            .with_connection_name(LongString::from(self.name.as_str()));
        let (guarded, tls) = (socket.clone(), RustlsConnector::from(Arc::clone(&self.tls)));
        let runtime = lapin::runtime::default_runtime()?;
        let own = runtime.clone();
        let connect = async move |uri: AMQPUri, _| {
            let address = (uri.authority.host.as_str(), uri.authority.port);
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host(address).await?.collect();
            let stream = AsyncTcpStream::connect(&own, addresses).await?;
            if let AsyncTcpStream::Plain(plain) = &stream {
                guarded.opened(plain.get_ref().as_fd())?;
            }
            Ok(match uri.scheme {
                AMQPScheme::AMQP => stream,
                AMQPScheme::AMQPS => stream.into_rustls(&tls, &uri.authority.host).await?,
            })
        };
        let connection = Connection::connector(uri.clone(), runtime, connect, options).await?;
        let channel = connection.create_channel().await?;
        let durable = ExchangeDeclareOptions { durable: true, ..Default::default() };
        for exchange in [RUNS, RUN_HOSTS] {
            let none = FieldTable::default();
            channel.exchange_declare(exchange.into(), ExchangeKind::Topic, durable, none).await?;
        }
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(AmqpLine { connection, channel, timeout: self.timeout, socket })
    }
}

#[async_trait]
impl Broker for AmqpBroker {
    async fn open(&self) -> Result<Arc<dyn Line>, BrokerError> {
        let first = self.first.load(Ordering::Relaxed);
        let mut reasons = Vec::new();
        for (number, uri) in self.servers.iter().enumerate().cycle().skip(first) {
            match self.line_to(uri).await {
                Ok(line) => {
                    self.first.store(number, Ordering::Relaxed);
                    return Ok(Arc::new(line));
                }
                Err(error) if self.servers.len() == 1 => return Err(error),
                Err(error) => reasons.push(format!("{}: {error}", place(uri))),
            }
            if reasons.len() == self.servers.len() {
                break;
            }
        }
        Err(BrokerError(reasons.join("; ")))
    }
}

/// An open connection with a channel whose messages are confirmed.
struct AmqpLine {
    connection: Connection,
    channel: Channel,
    timeout: Duration,
    socket: Socket,
}

#[async_trait]
impl Line for AmqpLine {
    async fn publish(&self, message: &Message) -> Result<(), BrokerError> {
        let publishing = async {
            let confirm = self
                .channel
                .basic_publish(
                    message.exchange.into(),
                    message.routing_key.as_str().into(),
                    BasicPublishOptions::default(),
                    &message.body,
                    properties(message),
                )
                .await?;
            confirm.await
        };
        match tokio::time::timeout(self.timeout, publishing).await {
            Ok(Ok(confirmation)) if confirmation.is_ack() => Ok(()),
            Ok(Ok(_)) => Err(BrokerError(
                "it refused a message (a full queue, or one that is not available)".to_owned(),
            )),
            Ok(Err(error)) => Err(BrokerError(error.to_string())),
            Err(_) if self.connection.status().blocked() => Err(BrokerError(
                "it takes nothing at present: an alarm of its memory or disk".to_owned(),
            )),
            Err(_) => Err(BrokerError(format!("no confirmation within {:?}", self.timeout))),
        }
    }

    async fn close(&self) {
        let closing = self.connection.close(lapin::protocol::constants::REPLY_SUCCESS, "OK".into());
        if !matches!(tokio::time::timeout(CLOSING, closing).await, Ok(Ok(()))) {
            tracing::debug!("the broker did not say goodbye");
        }
    }
}

impl Drop for AmqpLine {
    fn drop(&mut self) {
        self.socket.give_up();
    }
}

fn properties(message: &Message) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in &message.headers {
        let value = match value {
            Header::Text(text) => AMQPValue::LongString(text.as_str().into()),
            Header::Number(number) => AMQPValue::LongLongInt(*number),
        };
        headers.insert((*name).into(), value);
    }
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(PERSISTENT)
        .with_message_id(message.id.to_string().into())
        .with_type(message.kind.as_str().into())
        .with_timestamp(message.timestamp)
        .with_headers(headers)
}

/// A second handle on the socket of a connection, to end it from outside.
#[derive(Clone, Default)]
struct Socket(Arc<Mutex<SocketState>>);

#[derive(Default)]
enum SocketState {
    #[default]
    Waiting,
    Open(TcpStream),
    GivenUp,
}

impl Socket {
    /// The socket is there. An error where nobody wants it any more.
    fn opened(&self, socket: std::os::fd::BorrowedFd<'_>) -> std::io::Result<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, SocketState::GivenUp) {
            return Err(std::io::Error::other("the connection was given up"));
        }
        *state = SocketState::Open(TcpStream::from(socket.try_clone_to_owned()?));
        Ok(())
    }

    /// Whatever happens on it ends.
    fn give_up(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let SocketState::Open(socket) = std::mem::replace(&mut *state, SocketState::GivenUp) {
            // It may have ended by itself.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// Gives a socket up when dropped, unless it was taken out.
struct GiveUp(Option<Socket>);

impl Drop for GiveUp {
    fn drop(&mut self) {
        if let Some(socket) = &self.0 {
            socket.give_up();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls;

    fn broker(url: &str, timeout: Duration) -> Result<AmqpBroker, BrokerError> {
        let config = tls::client_config(&crate::config::tls::TlsSettings::default()).unwrap();
        AmqpBroker::at(url, "n", timeout, Arc::new(config))
    }

    #[test]
    fn addresses_are_understood_and_never_shown_with_a_password() {
        let second = Duration::from_secs(1);
        let broker = broker("amqp://u:hunter2@mq.example:5673/%2f", second).unwrap();
        assert_eq!(format!("{broker:?}"), "AmqpBroker(mq.example:5673)");
        assert_eq!(broker.servers[0].query.heartbeat, Some(HEARTBEAT));
        let several = super::tests::broker("amqps://u:hunter2@a,b:5673/v", second).unwrap();
        assert_eq!(format!("{several:?}"), "AmqpBroker(a:5671,b:5673)");
        let error = super::tests::broker("amqp://u:hunter2@[broken", second).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_accepts_and_says_nothing_is_given_up() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("amqp://{}", listener.local_addr().unwrap());
        let broker = broker(&url, Duration::from_secs(2)).unwrap();
        let accepting = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut told = Vec::new();
            // The end arrives although the connection was never made.
            tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut told).await.unwrap();
            told
        };
        let both = async { tokio::join!(broker.open(), accepting) };
        let (line, told) = tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
        assert!(line.err().unwrap().to_string().contains("2s"));
        assert!(told.starts_with(b"AMQP"));
    }
}
