//! A RabbitMQ of a test's own: its directory, its free loopback ports, its own port mapper, gone
//! with the test's process. Killed, halted and started again on the same port with what it held.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context, Result};
use lapin::{Connection, ConnectionProperties, tcp::OwnedTLSConfig};

use crate::{
    authority::Authority,
    guarded::{Guarded, directory, program},
    ports,
    process::PATIENCE,
};

const INSTALL: &str = "install rabbitmq-server (Debian, Ubuntu, Fedora)";
/// Where packages keep the server's own script; the one on the path changes user.
const PLACES: [&str; 2] = ["/usr/lib/rabbitmq/bin", "/usr/lib/rabbitmq/lib/rabbitmq_server/sbin"];
/// The node's port mapper would outlive it, in a session of its own. Started before the node and by
/// us, it is part of our session.
const START: &str = r#"
    epmd -port "$ERL_EPMD_PORT" &
    until epmd -port "$ERL_EPMD_PORT" -names >/dev/null 2>&1; do sleep 0.05; done
    exec "$0"
"#;
/// One thread for everything, which sleeps when there is nothing to do.
const MODEST: &str = "+S 1:1 +SDio 1 +sbwt none +sbwtdcpu none +sbwtdio none";

/// The longest that a test's own client waits for an answer before it asks again.
pub(crate) const ANSWER: Duration = Duration::from_secs(5);

/// What a RabbitMQ is like.
#[derive(Default)]
pub struct Options<'a> {
    /// Who signs its certificate, where it speaks TLS (and nothing else).
    pub authority: Option<&'a Authority>,
}

/// A running RabbitMQ.
pub struct PrivateRabbit {
    guarded: Guarded,
    port: u16,
    authority: Option<String>,
}

impl PrivateRabbit {
    /// Starts one and waits until it takes connections, which takes seconds.
    ///
    /// # Errors
    /// When RabbitMQ is not installed or does not start; says what to install.
    pub async fn start() -> Result<Self> {
        Self::start_with(&Options::default()).await
    }

    /// The same with TLS.
    ///
    /// # Errors
    /// When RabbitMQ is not installed or does not start; says what to install.
    pub async fn start_with(options: &Options<'_>) -> Result<Self> {
        let server = program("rabbitmq-server", &PLACES.map(Path::new), INSTALL)?;
        program("epmd", &[], INSTALL)?;
        let (directory, port) = (directory("rabbit")?, ports::free()?);
        let path = directory.path();
        let config = configuration(path, port, options.authority)?;
        std::fs::write(path.join("rabbitmq.conf"), config)?;
        std::fs::write(path.join("plugins"), "[].\n")?;
        let mut command = Command::new("sh");
        command.args(["-c", START]).arg(server);
        environment(&mut command, path)?;
        let guarded = Guarded::new(directory, &command, "")?;
        let authority = options.authority.map(Authority::pem);
        let rabbit = Self { guarded, port, authority };
        rabbit.restart().await?;
        Ok(rabbit)
    }

    /// Its address, with user and password.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.authority.is_some() { "amqps" } else { "amqp" };
        format!("{scheme}://guest:guest@localhost:{}/%2f", self.port)
    }

    /// Its process.
    #[must_use]
    pub fn process(&self) -> &Guarded {
        &self.guarded
    }

    /// Starts it again with everything it had confirmed, and waits until it takes connections.
    ///
    /// # Errors
    /// When it runs, or does not start.
    pub async fn restart(&self) -> Result<()> {
        self.guarded.start()?;
        let connects = async || connect(&self.url(), self.authority(), ANSWER).await.is_ok();
        self.guarded.until("took connections", connects).await
    }

    /// A connection past the service.
    ///
    /// # Errors
    /// When there is none.
    pub async fn client(&self) -> Result<Connection> {
        connect(&self.url(), self.authority(), PATIENCE).await
    }

    pub(crate) fn authority(&self) -> Option<String> {
        self.authority.clone()
    }
}

/// A connection; an error in time also from a broker that is only starting, which the client's own
/// attempt may wait for without end.
pub(crate) async fn connect(
    url: &str,
    authority: Option<String>,
    within: Duration,
) -> Result<Connection> {
    let tls = OwnedTLSConfig { identity: None, cert_chain: authority };
    let runtime = lapin::runtime::default_runtime()?;
    let properties = ConnectionProperties::default();
    let connecting = Connection::connect_with_config(url, properties, tls, runtime);
    Ok(tokio::time::timeout(within, connecting).await.context("the broker does not answer")??)
}

fn configuration(path: &Path, port: u16, authority: Option<&Authority>) -> Result<String> {
    let listeners = if let Some(authority) = authority {
        let files = authority.issue(path, &["localhost", "127.0.0.1"])?;
        format!(
            "listeners.tcp = none\nlisteners.ssl.1 = 127.0.0.1:{port}\n\
             ssl_options.cacertfile = {}\nssl_options.certfile = {}\nssl_options.keyfile = {}\n\
             ssl_options.verify = verify_none\nssl_options.fail_if_no_peer_cert = false\n",
            files.authority.display(),
            files.certificate.display(),
            files.key.display()
        )
    } else {
        format!("listeners.tcp.1 = 127.0.0.1:{port}\n")
    };
    Ok(format!("{listeners}disk_free_limit.absolute = 1MB\nlog.console = true\nlog.file = false\n"))
}

fn environment(command: &mut Command, path: &Path) -> Result<()> {
    let text = path.to_str().context("a directory with a name in UTF-8")?;
    let inside = |name: &str| format!("{text}/{name}");
    command.envs([
        ("HOME", text.to_owned()),
        ("RABBITMQ_NODENAME", "t1@localhost".to_owned()),
        ("RABBITMQ_DIST_PORT", ports::free()?.to_string()),
        ("ERL_EPMD_PORT", ports::free()?.to_string()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        ("RABBITMQ_MNESIA_BASE", inside("mnesia")),
        ("RABBITMQ_LOG_BASE", inside("logs")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", inside("plugins")),
        ("RABBITMQ_PID_FILE", inside("pid")),
        ("RABBITMQ_CONFIG_FILE", inside("rabbitmq")),
        ("RABBITMQ_CONF_ENV_FILE", inside("env")),
        ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", MODEST.to_owned()),
    ]);
    Ok(())
}
