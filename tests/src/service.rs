//! The service inside the test's process: the real router over a real SQLite database in a private
//! directory, on a free port. For tests that look at stores and count what is asked of them.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use anyhow::{Context, Result};
use dispatcher_api::{
    app::{App, Parts},
    auth::feeding,
    bus::Topic,
    config::{Settings, Standalone, secrets::ServiceKey, source::Source, values::ListenAddress},
    connector::Connector,
    http::{listen::Listener, router::router, server::Server},
    keyring::Keyring,
    recipients::model::Recipient,
    runs::model::{NewRoute, NewRun},
    storage::Objects,
    store::{Stores, sqlite},
};
use tempfile::TempDir;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{process::SECRET_KEYS, worker::ScriptedWorker};

/// The organisation everything in these tests belongs to, unless a test says otherwise.
pub const ORG: &str = "org-1";
/// The key of the service `test`, which may act for every organisation.
pub const KEY: &str = "testkey";
/// The key of the service `admin`, an admin of every organisation.
pub const ADMIN_KEY: &str = "adminkey";
/// The key of the service `org-admin`, an admin of [`ORG`] alone.
pub const ORG_ADMIN_KEY: &str = "orgadminkey";

/// A running service. Ends when dropped.
pub struct InProcess {
    /// What it is made of.
    pub app: App,
    /// Its address.
    pub url: String,
    /// Its connections.
    pub server: Server,
    directory: TempDir,
}

impl InProcess {
    /// Starts it with its defaults.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start() -> Result<Self> {
        Self::start_with(&[], |stores| stores).await
    }

    /// Starts it with a way to foreign hosts.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start_connected(
        variables: &[(&str, &str)],
        connector: Arc<dyn Connector>,
    ) -> Result<Self> {
        Self::start_wired(variables, |stores| stores, Some(connector)).await
    }

    /// Starts it with more environment variables, and with stores that a test has wrapped.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start_with(
        variables: &[(&str, &str)],
        wrap: impl FnOnce(Stores) -> Stores,
    ) -> Result<Self> {
        Self::start_wired(variables, wrap, None).await
    }

    async fn start_wired(
        variables: &[(&str, &str)],
        wrap: impl FnOnce(Stores) -> Stores,
        connector: Option<Arc<dyn Connector>>,
    ) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let stores = wrap(sqlite::Store::open(directory.path())?);
        let keys = Keyring::generate().context("the machine has no randomness")?;
        Self::serve(directory, stores, &keys, variables, connector).await
    }

    /// Starts one instance of several over these stores, with the loop that wakes the others.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn instance(stores: Stores, variables: &[(&str, &str)]) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let service = Self::serve(directory, stores, SECRET_KEYS, variables, None).await?;
        if let Some(remote) = service.app.remote() {
            tokio::spawn(remote.run(service.app.shutdown.clone()));
        }
        Ok(service)
    }

    async fn serve(
        directory: TempDir,
        stores: Stores,
        secret_keys: &str,
        variables: &[(&str, &str)],
        connector: Option<Arc<dyn Connector>>,
    ) -> Result<Self> {
        let listener = Listener::bind(&ListenAddress::Tcp(([127, 0, 0, 1], 0).into()))?;
        let address = listener.tcp_address().context("a TCP listener has an address")?;
        let url = format!("http://{address}");
        let app = wire(directory.path(), address, variables, (stores, connector), secret_keys)?;
        feeding::start(&app).await;
        let server = Server::start(vec![listener], router(&app), &app.settings.http);
        Ok(Self { app, url, server, directory })
    }

    /// Where its database is.
    #[must_use]
    pub fn database(&self) -> std::path::PathBuf {
        self.directory.path().join(sqlite::FILE_NAME)
    }

    /// How many files lie below a prefix of its object store, unfinished ones too.
    ///
    /// # Errors
    /// When a directory cannot be read.
    pub fn objects(&self, prefix: &str) -> Result<usize> {
        fn below(directory: &Path) -> std::io::Result<usize> {
            let mut count = 0;
            for entry in std::fs::read_dir(directory)? {
                let entry = entry?;
                count += if entry.file_type()?.is_dir() { below(&entry.path())? } else { 1 };
            }
            Ok(count)
        }
        let directory = self
            .app
            .settings
            .storage
            .directory()
            .context("objects are in a directory")?
            .join(prefix);
        Ok(if directory.exists() { below(&directory)? } else { 0 })
    }

    /// Registers a recipient of the usual organisation and hands out its worker.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn worker(&self) -> Result<ScriptedWorker> {
        let (recipient, key) = recipient(&self.app.keyring);
        anyhow::ensure!(self.app.stores.recipients.register(&recipient).await?, "id in use");
        Ok(ScriptedWorker::new(&self.url, recipient.id, key))
    }

    /// Creates a run for a recipient, as a dispatch does, and rings its worker.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn create(&self, run: NewRun) -> Result<Uuid> {
        let (id, recipient) = (run.id, run.recipient);
        self.app.stores.runs.create(&[run], None, &[]).await?;
        self.app.wakeups.wake(Topic::Recipient(recipient));
        Ok(id)
    }

    /// A request with the key of the service `admin`, for no organisation in particular.
    pub fn admin(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.as_key(ADMIN_KEY, method, path)
    }

    /// A request with this key, for no organisation in particular.
    pub fn as_key(
        &self,
        key: &str,
        method: reqwest::Method,
        path: &str,
    ) -> reqwest::RequestBuilder {
        reqwest::Client::new()
            .request(method, format!("{}{path}", self.url))
            .header("authorization", format!("PSK {key}"))
    }

    /// A request with the key of the service `test`, for the usual organisation.
    pub fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        reqwest::Client::new()
            .request(method, format!("{}{path}", self.url))
            .header("authorization", format!("PSK {KEY}"))
            .header("x-dispatcher-org", ORG)
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        self.app.shutdown.cancel();
    }
}

/// A recipient of the usual organisation that is not registered yet, and its worker's key.
#[must_use]
pub fn recipient(keyring: &Keyring) -> (Recipient, String) {
    let id = Uuid::new_v4();
    let key = format!("dwk_{}_{}", id.simple(), "s".repeat(32));
    let recipient = Recipient {
        id,
        org_id: ORG.to_owned(),
        name: "scripted".to_owned(),
        key_digest: keyring.digests(key.as_bytes()).into_iter().next(),
        last_seen: None,
        created_at: OffsetDateTime::now_utc().truncate_to_microsecond(),
    };
    (recipient, key)
}

/// A run for this recipient, an hour long, to be changed by the test.
#[must_use]
pub fn new_run(recipient: Uuid) -> NewRun {
    NewRun {
        id: Uuid::new_v4(),
        org_id: ORG.to_owned(),
        recipient,
        correlation_id: Uuid::new_v4(),
        url: "https://example.com/site.yml".to_owned(),
        labels: BTreeMap::new(),
        timeout: 3600,
        service: "test".to_owned(),
        name: Some("a test".to_owned()),
        web_console_url: "https://example.com/runs".to_owned(),
        principal: Some("tester".to_owned()),
        sat_id: None,
        sat_org_id: None,
        response_full: true,
        created_at: OffsetDateTime::now_utc().truncate_to_microsecond(),
        hosts: Vec::new(),
        route: NewRoute::Worker { inputs: None, sealed_secrets: None },
    }
}

fn admin((service, key, org_id): (&str, &str, Option<&str>)) -> ServiceKey {
    ServiceKey {
        service: service.to_owned(),
        key: key.to_owned().into(),
        org_id: org_id.map(str::to_owned),
    }
}

fn wire(
    directory: &Path,
    listen: std::net::SocketAddr,
    variables: &[(&str, &str)],
    (stores, connector): (Stores, Option<Arc<dyn Connector>>),
    secret_keys: &str,
) -> Result<App> {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let key = [("PSK_AUTH_TEST".to_owned(), KEY.to_owned())];
    let source = Source::new(variables.iter().map(own).chain(key).collect());
    let url = format!("http://{listen}");
    let standalone = Standalone { data_dir: directory.to_owned(), listen, url };
    let (settings, _) = Settings::checked(source, Some(&standalone))?;
    App::new(Parts {
        objects: Objects::of(&settings.storage, &settings.tls, &settings.requests)?,
        secret_keys: secret_keys.to_owned().into(),
        more_services: [("admin", ADMIN_KEY, None), ("org-admin", ORG_ADMIN_KEY, Some(ORG))]
            .map(admin)
            .to_vec(),
        connector,
        settings,
        stores,
    })
}
