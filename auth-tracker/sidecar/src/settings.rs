//! The settings that the tracker needs: some of the service's, read the same way.

use std::time::Duration;

use anyhow::{Context as _, bail};
use auth_tracker::last_auth::Rule;
use dispatcher_api::{
    commands::opening,
    config::{
        Form,
        auth::AuthSettings,
        database::{Database, Postgres},
        instance::InstanceSettings,
        logging::LogSettings,
        secrets::SecretSettings,
        source::Source,
        tls::TlsSettings,
    },
};
use secrecy::SecretString;

use crate::Arguments;

/// Connections to the database: the loop, the lease, and a drain at the same time.
const CONNECTIONS: usize = 4;

/// Everything that the tracker is told.
pub(crate) struct TrackerSettings {
    /// The database.
    pub(crate) database: Postgres,
    /// Who may call, and where Redis is.
    pub(crate) auth: AuthSettings,
    /// The shared secrets.
    pub(crate) secret_keys: SecretString,
    /// Whom to trust.
    pub(crate) tls: TlsSettings,
    /// What it is called.
    pub(crate) instance: InstanceSettings,
    /// Logs.
    pub(crate) logging: LogSettings,
    /// When times are written down.
    pub(crate) rule: Rule,
}

impl TrackerSettings {
    /// Reads and checks them.
    ///
    /// # Errors
    /// When anything is wrong or missing, all of it.
    pub(crate) fn read(arguments: &Arguments) -> anyhow::Result<Self> {
        let mut source = Source::from_process();
        let database = opening::database(&mut source);
        let auth = AuthSettings::read(&mut source);
        let secrets = SecretSettings::read(&mut source, Form::Serve);
        let tls = TlsSettings::read(&mut source);
        let instance = InstanceSettings::read(&mut source);
        let logging = LogSettings::read(&mut source, Form::Serve);
        if auth.redis.is_none() {
            source.error(
                "REDIS_URL is required: redis://[user:password@]host[:port][,host…][/database], the \
                 same as for the service; without Redis there is nothing to track, since every \
                 instance asks the sources itself",
            );
        }
        source.finish()?;
        let rule = Rule {
            interval: arguments.interval.map_or(auth.last_auth.interval, Duration::from_secs),
            threshold: match arguments.threshold {
                Some(threshold) => usize::try_from(threshold)?,
                None => auth.last_auth.threshold,
            },
        };
        Ok(Self {
            database: shared(database.context("no database is named")?)?,
            secret_keys: secrets.secret_keys.context("there are no shared secrets")?,
            auth,
            tls,
            instance,
            logging,
            rule,
        })
    }
}

fn shared(database: Database) -> anyhow::Result<Postgres> {
    match database {
        Database::Postgres(postgres) => {
            Ok(Postgres { connections: postgres.connections.min(CONNECTIONS), ..postgres })
        }
        Database::Sqlite(_) => bail!(
            "DATABASE_URL names a SQLite database, which only one process can use: the service \
             itself does what a tracker would do; name a PostgreSQL server to have several"
        ),
    }
}
