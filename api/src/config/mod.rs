//! Settings: from the environment only, one file per concern, checked at the start.
//!
//! Every setting is read through [`source::Source`], which knows its names, notes where its value
//! came from and collects what is wrong, so that one start names every mistake.

pub mod auth;
pub mod build;
pub mod cleaner;
pub mod connector;
pub mod database;
pub mod dispatch;
pub mod events;
pub mod execution;
pub mod gunicorn;
pub mod http;
pub mod instance;
pub mod inventory;
pub mod listening;
pub mod logging;
pub mod meaningless;
pub mod outside;
pub mod peers;
pub mod playbooks;
pub mod postgres;
pub mod process;
pub mod rbac;
pub mod retention;
pub mod secrets;
pub mod source;
pub mod sources;
pub mod storage;
pub mod tenants;
pub mod tls;
pub mod uploads;
pub mod values;
pub mod wakeups;

use std::{net::SocketAddr, path::PathBuf};

use source::{ConfigError, Effective, Source};

/// How variables begin that are meant for this service: one that no setting is called is a slip.
const OUR_PREFIXES: [&str; 2] = ["DISPATCHER_", "DCI_GUNICORN_"];
/// Variables of other programs of ours, and of tests.
const OUTSIDE: [&str; 4] =
    ["DISPATCHER_CRASH_AT", "DISPATCHER_URL", "DISPATCHER_KEY", "DISPATCHER_ORG"];
/// The settings that say how the server is limited, for whoever set them in another program's words.
const SERVER: [&str; 7] = [
    "WORKER_THREADS",
    "HTTP_MAX_CONNECTIONS",
    "MAX_REQUESTS",
    "MAX_REQUESTS_JITTER",
    "WATCHDOG_TIMEOUT",
    "HTTP_REQUEST_TIMEOUT",
    "GRACEFUL_TIMEOUT",
];

/// Which form the process has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Form {
    /// Everything in one process, nothing to set.
    Standalone,
    /// One of many instances; what they share is named.
    Serve,
}

/// What the command line decides in the standalone form.
#[derive(Clone, Debug)]
pub struct Standalone {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where others reach it, which is known once it listens.
    pub url: String,
}

/// Every setting but the database's.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which form the process has.
    pub form: Form,
    /// The process itself.
    pub process: process::ProcessSettings,
    /// HTTP.
    pub http: http::HttpSettings,
    /// Dispatches and runs.
    pub dispatch: dispatch::DispatchSettings,
    /// Who may call.
    pub auth: auth::AuthSettings,
    /// Secrets.
    pub secrets: secrets::SecretSettings,
    /// Foreign hosts.
    pub connector: connector::ConnectorSettings,
    /// Inventory.
    pub inventory: inventory::InventorySettings,
    /// Sources.
    pub sources: sources::SourcesSettings,
    /// RBAC.
    pub rbac: rbac::RbacSettings,
    /// Who knows the organisations of accounts.
    pub tenants: tenants::TenantSettings,
    /// What holds for every service outside.
    pub outside: outside::OutsideSettings,
    /// Objects.
    pub storage: storage::StorageSettings,
    /// Uploads of foreign hosts.
    pub uploads: uploads::UploadSettings,
    /// Stored playbooks.
    pub playbooks: playbooks::PlaybookSettings,
    /// Work on runs.
    pub execution: execution::ExecutionSettings,
    /// The worker inside the process.
    pub local: execution::LocalSettings,
    /// The cleaner.
    pub cleaner: cleaner::CleanerSettings,
    /// This process among the others.
    pub instance: instance::InstanceSettings,
    /// Whom outgoing connections trust.
    pub tls: tls::TlsSettings,
    /// How long other HTTP services may take.
    pub requests: tls::Timeouts,
    /// Events.
    pub events: events::EventSettings,
    /// How long things are kept.
    pub retention: retention::RetentionSettings,
    /// Wake-ups between instances.
    pub wakeups: wakeups::WakeupSettings,
    /// Logs.
    pub logging: logging::LogSettings,
    /// The build.
    pub build: build::BuildSettings,
    /// Settings that are set and mean nothing here.
    pub meaningless: Vec<String>,
    /// Variables that are named like settings of ours, and are none.
    pub unknown: Vec<String>,
    /// What else is to be said of the settings at the start.
    pub notices: Vec<String>,
    /// The limits of the server as they are in force, with where they come from.
    pub server: Vec<Effective>,
}

impl Settings {
    /// Reads every setting; `standalone` is what the command line decided in that form. Mistakes
    /// are collected in the source, see [`Source::finish`].
    pub fn read(source: &mut Source, standalone: Option<&Standalone>) -> Self {
        let form = if standalone.is_some() { Form::Standalone } else { Form::Serve };
        let own_url = standalone.map(|own| own.url.as_str());
        let dispatch = dispatch::DispatchSettings::read(source, own_url);
        let gunicorn = gunicorn::Gunicorn::read(source);
        let mut settings = Self {
            form,
            process: process::ProcessSettings::read(source, &gunicorn),
            http: http::HttpSettings::read(
                source,
                form,
                standalone.map(|own| own.listen),
                &gunicorn,
            ),
            uploads: uploads::UploadSettings::read(source, &dispatch.public_url),
            dispatch,
            auth: auth::AuthSettings::read(source),
            secrets: secrets::SecretSettings::read(source, form),
            connector: connector::ConnectorSettings::read(source),
            inventory: inventory::InventorySettings::read(source),
            sources: sources::SourcesSettings::read(source),
            rbac: rbac::RbacSettings::read(source),
            tenants: tenants::TenantSettings::read(source),
            outside: outside::OutsideSettings::read(source),
            storage: standalone.map_or_else(
                || storage::StorageSettings::read(source),
                |own| storage::StorageSettings::inside(&own.data_dir),
            ),
            playbooks: playbooks::PlaybookSettings::read(source),
            execution: execution::ExecutionSettings::read(source),
            local: execution::LocalSettings::read(
                source,
                standalone.map(|own| own.data_dir.as_path()),
            ),
            cleaner: cleaner::CleanerSettings::read(source),
            instance: instance::InstanceSettings::read(source),
            tls: tls::TlsSettings::read(source),
            requests: tls::Timeouts::read(source),
            events: events::EventSettings::read(source),
            retention: retention::RetentionSettings::read(source),
            wakeups: wakeups::WakeupSettings::read(source),
            logging: logging::LogSettings::read_with(source, form, &gunicorn),
            build: build::BuildSettings::read(source),
            meaningless: meaningless::found(source),
            unknown: Vec::new(),
            notices: Vec::new(),
            server: Vec::new(),
        };
        settings.unknown = source.unknown(&OUR_PREFIXES);
        settings.unknown.retain(|name| !OUTSIDE.contains(&name.as_str()));
        settings.notices = source.notices().to_vec();
        let of_server = source.effective().iter().filter(|one| SERVER.contains(&one.name));
        settings.server = of_server.cloned().collect();
        settings
    }

    /// Reads and checks every setting.
    ///
    /// # Errors
    /// When anything is wrong, all of it.
    pub fn checked(
        mut source: Source,
        standalone: Option<&Standalone>,
    ) -> Result<(Self, Vec<Effective>), ConfigError> {
        let settings = Self::read(&mut source, standalone);
        Ok((settings, source.finish()?))
    }
}
