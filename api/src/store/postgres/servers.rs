//! Which servers there are, and how one of them is reached: each in its turn, in the ways that the
//! mode of encryption allows, until one is there that will do.
//!
//! Every server has its share of the time, since one that is frozen takes connections and never
//! answers. Texts name servers by host and port, and never hold a password.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::anyhow;
use deadpool_postgres::Connect;
use secrecy::ExposeSecret as _;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_postgres::{
    AsyncMessage, Client, Config, Error, NoTls, Socket,
    config::{Host, SslMode as Driver, TargetSessionAttrs},
    tls::{MakeTlsConnect, TlsConnect},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{encryption, fault};
use crate::{
    config::database::{Address, Postgres, SslMode},
    store::{StoreError, StoreResult},
};

/// The least that one of several servers has for an answer.
const LEAST_SHARE: Duration = Duration::from_secs(1);
/// An idle connection is tried after so long, so often and so many times; data that nobody confirms
/// is waited for as long: a host that has lost its power says nothing.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
const UNCONFIRMED: Duration = Duration::from_secs(15);
/// The driver's default, which means that nobody has asked for anything.
const DRIVERS_IDLE: Duration = Duration::from_secs(2 * 60 * 60);

/// A way to begin a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    Plain,
    Encrypted,
}

/// One server.
struct Server {
    /// Host and port, for people.
    name: String,
    /// Whether it is a socket, which is never encrypted.
    local: bool,
    config: Config,
}

/// Every server of the settings.
pub(super) struct Servers {
    all: Vec<Server>,
    mode: SslMode,
    tls: Option<MakeRustlsConnect>,
    share: Duration,
    /// Why the last connection was not made.
    refusal: Mutex<String>,
}

/// What a connection is for.
#[derive(Clone, Debug)]
pub(super) struct Purpose {
    /// What it is called in the server's list.
    pub(super) name: &'static str,
    /// Who is told what others NOTIFY; what does not fit is dropped.
    pub(super) heard: Option<mpsc::Sender<String>>,
}

impl Default for Purpose {
    fn default() -> Self {
        Self { name: "dispatcher-api", heard: None }
    }
}

/// Why no server will do.
pub(super) struct Refusal {
    /// For people.
    pub(super) text: String,
    /// Whether waiting does not help: keys, names or certificates are wrong.
    pub(super) lasting: bool,
    error: Error,
}

impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> Self {
        let Refusal { text, lasting, .. } = refusal;
        if lasting { Self::Failed(text) } else { Self::Unavailable(text) }
    }
}

impl Servers {
    pub(super) fn of(postgres: &Postgres) -> StoreResult<Self> {
        let unusable = |why: String| {
            StoreError::Failed(format!("the database's address is not usable: {why}"))
        };
        let tls =
            encryption::connector(&postgres.tls).map_err(|why| unusable(format!("{why:#}")))?;
        let parsed = parsed(&postgres.address).map_err(|why| unusable(why.to_string()))?;
        let all = servers(&parsed, postgres).map_err(|why| unusable(why.to_string()))?;
        let count = u32::try_from(all.len()).unwrap_or(u32::MAX).max(1);
        Ok(Self {
            all,
            mode: postgres.tls.mode,
            tls,
            share: (postgres.wait / count).max(LEAST_SHARE),
            refusal: Mutex::default(),
        })
    }

    /// The most that connecting may take.
    pub(super) fn patience(&self) -> Duration {
        self.share * u32::try_from(self.all.len()).unwrap_or(u32::MAX) + Duration::from_secs(1)
    }

    /// Why the last connection was not made.
    pub(super) fn last_refusal(&self) -> String {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A connection for ordinary work.
    pub(super) async fn connect(&self) -> Result<(Client, JoinHandle<()>), Refusal> {
        self.connect_for(&Purpose::default()).await
    }

    /// A connection to the first server that will do, which ends with its client.
    pub(super) async fn connect_for(
        &self,
        purpose: &Purpose,
    ) -> Result<(Client, JoinHandle<()>), Refusal> {
        let mut texts = Vec::new();
        let (mut lasting, mut last) = (true, None);
        for server in &self.all {
            let tried = tokio::time::timeout(self.share, self.reach(server, purpose)).await;
            let error = match tried {
                Ok(Ok(connected)) => return Ok(connected),
                Ok(Err(error)) => error,
                Err(_) => Error::__private_api_timeout(),
            };
            let (text, never) = explained(&error);
            texts.push(format!("{}: {text}", server.name));
            lasting &= never;
            last = Some(error);
        }
        let text = texts.join("; ");
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&text);
        Err(Refusal { text, lasting, error: last.unwrap_or_else(Error::__private_api_timeout) })
    }

    /// One server, in every way that is allowed.
    async fn reach(
        &self,
        server: &Server,
        purpose: &Purpose,
    ) -> Result<(Client, JoinHandle<()>), Error> {
        let mut ways = self.ways(server).iter().peekable();
        loop {
            let way = ways.next().copied().unwrap_or(Way::Plain);
            match self.begin(server, way, purpose).await {
                Err(error) if ways.peek().is_some() && other_way_may_help(&error) => {}
                done => return done,
            }
        }
    }

    fn ways(&self, server: &Server) -> &'static [Way] {
        match self.mode {
            _ if server.local => &[Way::Plain],
            SslMode::Disable => &[Way::Plain],
            SslMode::Allow => &[Way::Plain, Way::Encrypted],
            SslMode::Prefer => &[Way::Encrypted, Way::Plain],
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => &[Way::Encrypted],
        }
    }

    async fn begin(
        &self,
        server: &Server,
        way: Way,
        purpose: &Purpose,
    ) -> Result<(Client, JoinHandle<()>), Error> {
        let mut config = server.config.clone();
        config.application_name(purpose.name);
        match (way, &self.tls) {
            (Way::Encrypted, Some(tls)) => {
                config.ssl_mode(Driver::Require);
                opened(&config, tls.clone(), purpose).await
            }
            _ => {
                config.ssl_mode(Driver::Disable);
                opened(&config, NoTls, purpose).await
            }
        }
    }
}

async fn opened<T>(
    config: &Config,
    tls: T,
    purpose: &Purpose,
) -> Result<(Client, JoinHandle<()>), Error>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
    T::TlsConnect: Send,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    let (client, mut connection) = config.connect(tls).await?;
    let heard = purpose.heard.clone();
    let kept = tokio::spawn(async move {
        while let Some(message) = poll_fn(|cx| connection.poll_message(cx)).await {
            match (message, &heard) {
                (Ok(AsyncMessage::Notification(said)), Some(heard)) => {
                    // Whoever reads this slowly has enough to look at.
                    let _ = heard.try_send(said.payload().to_owned());
                }
                (Ok(_), _) => {}
                // Whoever uses the connection is told too.
                (Err(error), _) => {
                    tracing::debug!(%error, "a connection to the database ended");
                    return;
                }
            }
        }
    });
    Ok((client, kept))
}

/// As libpq: where the server refuses the caller or the encryption, and not where it is not there.
fn other_way_may_help(error: &Error) -> bool {
    let refused = error.as_db_error().is_some_and(|answer| answer.code().code().starts_with("28"));
    refused || is_of_tls(error)
}

fn is_of_tls(error: &Error) -> bool {
    error.to_string().starts_with("error performing TLS handshake")
}

/// Why a server will not do, for people, and whether waiting does not help.
fn explained(error: &Error) -> (String, bool) {
    let text = fault::connecting(error);
    if let Some(answer) = error.as_db_error() {
        // Who may not come in, and databases that are not there.
        let never = ["28", "3D", "42501"].iter().any(|code| answer.code().code().starts_with(code));
        return (text, never);
    }
    if !is_of_tls(error) {
        return (text, false);
    }
    if let Some(failed) = rustls_error(error) {
        let cure = encryption::cure(failed);
        return (
            cure.map_or_else(|| text.clone(), |cure| format!("{text}; {cure}")),
            cure.is_some(),
        );
    }
    if text.contains("does not support TLS") {
        let cure = "turn it on there (ssl = on), or choose another DB_SSLMODE";
        return (format!("{text}; {cure}"), true);
    }
    (text, false)
}

fn rustls_error(error: &Error) -> Option<&rustls::Error> {
    use std::error::Error as _;
    let io = error.source()?.downcast_ref::<std::io::Error>()?;
    io.get_ref()?.downcast_ref()
}

/// How the pool asks for connections.
pub(super) struct Connector(pub(super) Arc<Servers>);

type Connecting<'a> =
    Pin<Box<dyn Future<Output = Result<(Client, JoinHandle<()>), Error>> + Send + 'a>>;

impl Connect for Connector {
    fn connect(&self, _: &Config) -> Connecting<'_> {
        Box::pin(async { self.0.connect().await.map_err(|refusal| refusal.error) })
    }
}

/// The driver's form of an address.
fn parsed(address: &Address) -> anyhow::Result<Config> {
    match address {
        // The driver's own words may quote a part of the URL, which may be a part of a password.
        Address::Url(url) => Config::from_str(url.expose_secret()).map_err(|_| {
            anyhow!(
                "DATABASE_URL must be postgres://user:password@host:port,host:port/name?…, with \
                 what is special in a password as %XX, and parameters that are known: host, port, \
                 user, password, hostaddr, options, sslmode, sslrootcert, sslnegotiation, \
                 target_session_attrs, channel_binding, keepalives…, tcp_user_timeout"
            )
        }),
        Address::Parts { hosts, ports, name, user, password } => {
            let mut config = Config::new();
            config.dbname(name).user(user);
            for host in hosts {
                config.host(host);
            }
            for port in ports {
                config.port(*port);
            }
            if let Some(password) = password {
                config.password(password.expose_secret());
            }
            Ok(config)
        }
    }
}

/// Each server with everything that is asked of it.
fn servers(parsed: &Config, postgres: &Postgres) -> anyhow::Result<Vec<Server>> {
    let hosts = hosts(parsed);
    let (ports, addresses) = (parsed.get_ports(), parsed.get_hostaddrs());
    let count = hosts.len().max(addresses.len());
    if count == 0 {
        return Err(anyhow!("it names no host"));
    }
    if ports.len() > 1 && ports.len() != count {
        return Err(anyhow!("it has {} ports for {count} hosts", ports.len()));
    }
    if !hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len() {
        return Err(anyhow!("it has {} hostaddr for {} hosts", addresses.len(), hosts.len()));
    }
    let port = |at: usize| ports.get(at).or_else(|| ports.first()).copied().unwrap_or(5432);
    let all = (0..count).map(|at| {
        let mut config = same(parsed, postgres.writable);
        config.port(port(at));
        let mut name = None;
        if let Some(address) = addresses.get(at) {
            config.hostaddr(*address);
            name = Some(format!("{address}:{}", port(at)));
        }
        let local = match hosts.get(at) {
            Some(Host::Tcp(host)) => {
                config.host(host);
                name = Some(format!("{host}:{}", port(at)));
                false
            }
            Some(Host::Unix(path)) => {
                config.host_path(path);
                name = Some(format!("{}, port {}", path.display(), port(at)));
                true
            }
            None => false,
        };
        Server { name: name.unwrap_or_default(), local, config }
    });
    Ok(all.collect())
}

/// Hosts, also those that one parameter names together.
fn hosts(parsed: &Config) -> Vec<Host> {
    let split = |host: &Host| match host {
        Host::Tcp(names) => names.split(',').map(|name| Host::Tcp(name.to_owned())).collect(),
        Host::Unix(path) => vec![Host::Unix(path.clone())],
    };
    parsed.get_hosts().iter().flat_map(split).collect()
}

/// Everything but hosts and ports.
fn same(parsed: &Config, writable: bool) -> Config {
    let mut config = Config::new();
    if let Some(user) = parsed.get_user() {
        config.user(user);
    }
    if let Some(password) = parsed.get_password() {
        config.password(password);
    }
    if let Some(name) = parsed.get_dbname() {
        config.dbname(name);
    }
    if let Some(options) = parsed.get_options() {
        config.options(options);
    }
    let idle = parsed.get_keepalives_idle();
    config
        .channel_binding(parsed.get_channel_binding())
        .ssl_negotiation(parsed.get_ssl_negotiation())
        .keepalives(parsed.get_keepalives())
        .keepalives_idle(if idle == DRIVERS_IDLE { KEEPALIVE_IDLE } else { idle })
        .keepalives_interval(parsed.get_keepalives_interval().unwrap_or(KEEPALIVE_INTERVAL))
        .keepalives_retries(parsed.get_keepalives_retries().unwrap_or(KEEPALIVE_RETRIES))
        .tcp_user_timeout(parsed.get_tcp_user_timeout().copied().unwrap_or(UNCONFIRMED));
    if writable {
        config.target_session_attrs(TargetSessionAttrs::ReadWrite);
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(url: &str) -> Result<Vec<(String, bool)>, String> {
        let servers = Servers::of(&Postgres::at(url)).map_err(|error| error.to_string())?;
        Ok(servers.all.iter().map(|server| (server.name.clone(), server.local)).collect())
    }

    fn tcp(name: &str) -> (String, bool) {
        (name.to_owned(), false)
    }

    #[test]
    fn every_way_to_name_several_servers_is_understood() {
        for (url, expected) in [
            ("postgres://u@h1:5433,h2/d", vec![tcp("h1:5433"), tcp("h2:5432")]),
            ("postgres:///d?host=h1,h2", vec![tcp("h1:5432"), tcp("h2:5432")]),
            ("postgres://u@[::1]:1/d", vec![tcp("::1:1")]),
            ("postgres:///d?hostaddr=127.0.0.1&port=7", vec![tcp("127.0.0.1:7")]),
            ("postgres:///d?host=/run/pg", vec![("/run/pg, port 5432".to_owned(), true)]),
        ] {
            assert_eq!(names(url).unwrap(), expected, "{url}");
        }
    }

    #[test]
    fn mistakes_are_explained_without_the_password() {
        for url in [
            "postgres://u:hunter2@h/d?hunter2=x",
            "postgres://u:hunter2@h:hunter2/d",
            "postgres://u:hunter2@h1,h2/d?port=1",
            "postgres://u:hunter2@/d",
        ] {
            let error = names(url).unwrap_err();
            assert!(
                error.contains("address is not usable") && !error.contains("hunter2"),
                "{error}"
            );
        }
    }
}
