//! `keys`: keys of services, made on the service's own host, directly on the database. This is how
//! the first admin comes to be, and the way back in when the last one's key is lost.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use dispatcher_wire::admin::{KeyView, MadeKey, NewKey, Rotation};
use secrecy::ExposeSecret as _;

use super::opening;
use crate::{
    audit::model::Actor,
    auth::principal::OrgScope,
    config::{Form, secrets::SecretSettings, source::Source},
    keyring::Keyring,
    keys::{Keys, create::Asking, model::KeyQuery},
};

/// The most keys that are listed.
const MOST_LISTED: i64 = 10_000;

/// What is done with keys.
#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// Make a key; it is printed once and kept nowhere
    Create {
        /// The service it belongs to
        #[arg(long)]
        service: String,
        /// reader, operator or admin
        #[arg(long, default_value = "operator")]
        role: String,
        /// The only organisation it may act for; without it, it may act for every one
        #[arg(long)]
        org: Option<String>,
        /// When it ends, for example 2027-01-31T12:00:00Z; without it, never
        #[arg(long, value_name = "TIME")]
        expires_at: Option<String>,
        #[command(flatten)]
        to: Destination,
    },
    /// List keys
    List,
    /// Make a successor for a key, which ends after an overlap
    Rotate {
        /// The key's id
        id: String,
        /// How long the old key goes on, in seconds
        #[arg(long, value_name = "SECONDS")]
        overlap: Option<u64>,
        #[command(flatten)]
        to: Destination,
    },
    /// Revoke a key
    Revoke {
        /// The key's id
        id: String,
    },
}

/// Where a new key goes.
#[derive(Args, Debug)]
pub(super) struct Destination {
    /// Write the key to this new file (readable by its owner only) instead of standard output
    #[arg(long, value_name = "FILE")]
    output_file: Option<PathBuf>,
}

/// Does it. Needs the database's settings and the secret keys only.
///
/// # Errors
/// When the settings are wrong, the database fails, or the change is refused.
pub(super) async fn run(command: KeysCommand) -> anyhow::Result<ExitCode> {
    let mut source = Source::from_process();
    let database = opening::database(&mut source);
    let secrets = SecretSettings::read(&mut source, Form::Serve);
    source.finish()?;
    let secret_keys = secrets.secret_keys.context("DISPATCHER_SECRET_KEYS is required")?;
    let stores = opening::open(&database.context("no database is named")?).await?;
    let keys = Keys {
        store: stores.keys,
        keyring: Arc::new(Keyring::parse(secret_keys.expose_secret())?),
        in_settings: secrets.services.into_iter().map(|key| key.service).collect(),
    };
    let by = Actor::on_host(&user());
    let asking = Asking { by, scope: OrgScope::All, org_id: None };
    match command {
        KeysCommand::Create { service, role, org, expires_at, to } => {
            let (all_orgs, role) = (org.is_none(), Some(role));
            let wanted = NewKey { id: None, service, role, org_id: org, all_orgs, expires_at };
            to.deliver(&keys.create(&asking, &wanted).await?)?;
        }
        KeysCommand::List => list(&keys).await?,
        KeysCommand::Rotate { id, overlap, to } => {
            let rotation = Rotation { overlap_seconds: overlap, ..Rotation::default() };
            to.deliver(&keys.rotate(&asking, &id, &rotation).await?)?;
        }
        KeysCommand::Revoke { id } => {
            let revoked = keys.revoke(&asking, &id).await?;
            println!("revoked: {}", line(&revoked.key));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(keys: &Keys) -> anyhow::Result<()> {
    let query = KeyQuery {
        scope: OrgScope::All,
        service: None,
        live_at: None,
        limit: MOST_LISTED,
        offset: 0,
    };
    for key in keys.list(&query).await?.rows {
        println!("{}", line(&key));
    }
    Ok(())
}

fn line(key: &KeyView) -> String {
    let org = key.org_id.as_deref().unwrap_or("*");
    let KeyView { id, service, role, state, .. } = key;
    let end = key.expires_at.as_ref().map(|end| format!("  ends {end}")).unwrap_or_default();
    format!("{id}  {service}  {role}  org {org}  {state}{end}")
}

impl Destination {
    /// The secret goes to standard output alone or to the file, everything else to standard error.
    fn deliver(&self, made: &MadeKey) -> anyhow::Result<()> {
        eprintln!("made: {}", line(&made.key));
        if let Some(old) = &made.replaces {
            eprintln!("replaces: {}", line(old));
        }
        let delivered = match &self.output_file {
            Some(path) => write_private(path, &made.secret),
            None => writeln!(io::stdout(), "{}", made.secret),
        };
        let id = &made.key.id;
        delivered.with_context(|| {
            format!(
                "the key {id} was made and could not be handed over; revoke it: keys revoke {id}"
            )
        })
    }
}

fn write_private(path: &Path, secret: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{secret}")?;
    file.sync_all()
}

/// Who calls, as far as the host says: for the log, not for a decision.
pub(super) fn user() -> String {
    let named = ["SUDO_USER", "USER", "LOGNAME"].into_iter();
    let named = named.filter_map(|name| std::env::var(name).ok()).find(|name| !name.is_empty());
    let by_number = || {
        let number = std::fs::metadata("/proc/self").map(|own| own.uid().to_string());
        format!("uid {}", number.as_deref().unwrap_or("unknown"))
    };
    named.unwrap_or_else(by_number).chars().filter(|c| !c.is_control()).take(64).collect()
}
