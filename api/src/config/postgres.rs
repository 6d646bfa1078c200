//! Connections to PostgreSQL: whether they are encrypted and whom they trust, how many there are,
//! and how long anything may take.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use secrecy::SecretString;

use super::{
    database::Address,
    source::{Source, Spec},
    tls::{TlsSettings, absolute},
};

const SSLMODE: Spec = Spec {
    names: &["DB_SSLMODE"],
    about: "Whether connections to PostgreSQL are encrypted, in libpq's words: allow (only where \
            the server insists), prefer (where it can), require, verify-ca (and an authority of \
            DB_CA or TLS_CA_FILE has signed for the server), verify-full (and for its name). \
            Unset: disable, or prefer with DATABASE_URL. Sockets are never encrypted.",
    allowed: "disable, allow, prefer, require, verify-ca, verify-full",
    secret: false,
};
const CA: Spec = Spec {
    names: &["DB_CA", "DB_CA_FILE"],
    about: "The only authorities that are trusted to sign for PostgreSQL servers; with it, require \
            means verify-ca, as in libpq.",
    allowed: "an absolute path to a file with PEM certificates",
    secret: false,
};
const CONNECTIONS: Spec = Spec {
    names: &["DB_MAX_OPEN_CONNECTIONS", "DB_POOL_SIZE"],
    about: "The most connections of one process to PostgreSQL.",
    allowed: "1 to 1000",
    secret: false,
};
const KEPT: Spec = Spec {
    names: &["DB_MAX_IDLE_CONNECTIONS", "SQLALCHEMY_POOL_SIZE"],
    about: "Connections that one process keeps to PostgreSQL though they are idle; others are \
            closed after 30 seconds.",
    allowed: "0 to 1000",
    secret: false,
};
const OVERFLOW: Spec = Spec {
    names: &["SQLALCHEMY_MAX_OVERFLOW"],
    about: "Connections beside those that are kept; together they are the most, instead of \
            DB_MAX_OPEN_CONNECTIONS. -1: 1000 in all.",
    allowed: "-1 to 1000",
    secret: false,
};
const WAIT: Spec = Spec {
    names: &["DB_POOL_TIMEOUT"],
    about: "Seconds to wait for a connection to PostgreSQL, from the pool or new.",
    allowed: "1 to 300",
    secret: false,
};
const STATEMENT: Spec = Spec {
    names: &["DB_STATEMENT_TIMEOUT"],
    about: "Seconds after which PostgreSQL gives a statement up.",
    allowed: "1 to 3600",
    secret: false,
};

/// The most connections that may be asked for.
const MOST: usize = 1000;
const DEFAULT_CONNECTIONS: usize = 20;
const DEFAULT_KEPT: usize = 10;
const DEFAULT_WAIT: u64 = 5;
const DEFAULT_STATEMENT: u64 = 30;

/// A PostgreSQL server, or several of which one takes writes, and what is asked of them.
#[derive(Clone, Debug)]
pub struct Postgres {
    /// How they are addressed.
    pub address: Address,
    /// Whether connections are encrypted, and whom they trust.
    pub tls: PostgresTls,
    /// Whether only a server that takes writes will do.
    pub writable: bool,
    /// The most connections.
    pub connections: usize,
    /// Whether there was to be no limit to them.
    pub unlimited: bool,
    /// Connections that are kept though they are idle.
    pub kept: usize,
    /// How long to wait for a connection.
    pub wait: Duration,
    /// How long a statement may take.
    pub statement: Duration,
}

/// Whether connections are encrypted, and whom they trust.
#[derive(Clone, Debug)]
pub struct PostgresTls {
    /// The mode.
    pub mode: SslMode,
    /// The only authorities that count.
    pub ca: Option<PathBuf>,
    /// Those of every other connection, where none are named for the database.
    pub general: TlsSettings,
}

/// libpq's modes of encryption.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SslMode {
    /// Never.
    Disable,
    /// Only where the server takes nothing else.
    Allow,
    /// Where the server can, else not.
    Prefer,
    /// Always, with whoever answers.
    Require,
    /// Always, with a server for which an authority has signed.
    VerifyCa,
    /// The same, for its name.
    VerifyFull,
}

const MODES: [(SslMode, &str); 6] = [
    (SslMode::Disable, "disable"),
    (SslMode::Allow, "allow"),
    (SslMode::Prefer, "prefer"),
    (SslMode::Require, "require"),
    (SslMode::VerifyCa, "verify-ca"),
    (SslMode::VerifyFull, "verify-full"),
];

impl FromStr for SslMode {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        MODES.iter().find(|(_, word)| *word == text).map(|(mode, _)| *mode).ok_or(())
    }
}

impl fmt::Display for SslMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MODES.iter().find(|(mode, _)| mode == self).map_or("", |(_, word)| word))
    }
}

/// What a URL says that the driver does not know.
#[derive(Clone, Debug, Default)]
pub(super) struct Named {
    /// `sslmode`.
    pub(super) mode: Option<String>,
    /// `sslrootcert`.
    pub(super) ca: Option<String>,
    /// `target_session_attrs`.
    pub(super) session: Option<String>,
}

/// Everything but the address.
pub(super) struct Server {
    tls: PostgresTls,
    writable: bool,
    connections: usize,
    unlimited: bool,
    kept: usize,
    wait: Duration,
    statement: Duration,
}

impl Server {
    pub(super) fn over(self, address: Address) -> Postgres {
        let Self { tls, writable, connections, unlimited, kept, wait, statement } = self;
        Postgres { address, tls, writable, connections, unlimited, kept, wait, statement }
    }
}

impl Postgres {
    /// The server of that URL with defaults for the rest. Parameters of the URL that are not
    /// acceptable count as not there.
    #[must_use]
    pub fn at(url: impl Into<String>) -> Self {
        let (url, named) = super::database::split(&url.into());
        let mode = named.mode.and_then(|mode| mode.parse().ok()).unwrap_or(SslMode::Prefer);
        Self {
            address: Address::Url(SecretString::from(url)),
            tls: PostgresTls {
                mode,
                ca: named.ca.map(PathBuf::from),
                general: TlsSettings::default(),
            },
            writable: named.session.as_deref() != Some("any"),
            connections: DEFAULT_CONNECTIONS,
            unlimited: false,
            kept: DEFAULT_KEPT,
            wait: Duration::from_secs(DEFAULT_WAIT),
            statement: Duration::from_secs(DEFAULT_STATEMENT),
        }
    }
}

/// Reads everything but the address.
pub(super) fn read(source: &mut Source, named: Named, of_parts: bool) -> Server {
    let writable = match named.session.as_deref() {
        None | Some("read-write" | "primary") => true,
        Some("any") => false,
        Some(_) => {
            source.error(
                "target_session_attrs in DATABASE_URL is not acceptable; allowed: read-write, \
                 primary, any (the service writes, so that others are of no use)",
            );
            true
        }
    };
    let tls = read_tls(source, named, of_parts);
    let (connections, kept, unlimited) = read_pool(source);
    Server {
        tls,
        writable,
        connections,
        unlimited,
        kept: kept.min(connections),
        wait: Duration::from_secs(source.within(&WAIT, DEFAULT_WAIT, 1..=300)),
        statement: Duration::from_secs(source.within(&STATEMENT, DEFAULT_STATEMENT, 1..=3600)),
    }
}

fn read_tls(source: &mut Source, named: Named, of_parts: bool) -> PostgresTls {
    let default = if of_parts { SslMode::Disable } else { SslMode::Prefer };
    let word = once(source, &SSLMODE, "sslmode", named.mode);
    let mode = word.as_deref().map_or(Ok(default), str::parse);
    let mode = mode.unwrap_or_else(|()| {
        source.reject(&SSLMODE, word.as_deref().unwrap_or_default());
        default
    });
    let own = absolute(source, &CA).map(|path| path.display().to_string());
    if own.is_some() && named.ca.is_some() && own != named.ca {
        source.error("DB_CA and sslrootcert in DATABASE_URL are one setting with two values");
    }
    let ca = own.or(named.ca).map(PathBuf::from);
    let general = TlsSettings::read(source);
    if mode == SslMode::VerifyCa && ca.is_none() && general.ca_file.is_none() {
        source.error(
            "DB_SSLMODE=verify-ca needs DB_CA: any server for which a public authority has signed \
             would do otherwise; name the authority, or use verify-full",
        );
    }
    PostgresTls { mode, ca, general }
}

/// A setting that the URL may have too.
fn once(
    source: &mut Source,
    spec: &Spec,
    parameter: &str,
    in_url: Option<String>,
) -> Option<String> {
    let own = source.text(spec);
    if own.is_some() && in_url.is_some() && own != in_url {
        let name = spec.names.first().copied().unwrap_or_default();
        source.error(format!(
            "{name} and {parameter} in DATABASE_URL are one setting with two values"
        ));
    }
    own.or(in_url)
}

/// The most connections, those kept, and whether there was to be no limit.
fn read_pool(source: &mut Source) -> (usize, usize, bool) {
    let most = source.within(&CONNECTIONS, DEFAULT_CONNECTIONS, 1..=MOST);
    let kept = source.within(&KEPT, DEFAULT_KEPT, 0..=MOST);
    let Some(text) = source.text(&OVERFLOW) else { return (most, kept, false) };
    let overflow: Option<i64> = text.parse().ok().filter(|overflow| (-1..=1000).contains(overflow));
    let Some(overflow) = overflow else {
        source.reject(&OVERFLOW, &text);
        return (most, kept, false);
    };
    let in_all = usize::try_from(overflow).map_or(MOST, |overflow| kept + overflow).clamp(1, MOST);
    if source.is_set(&CONNECTIONS) && in_all != most {
        source.error(format!(
            "DB_MAX_OPEN_CONNECTIONS={most} and SQLALCHEMY_POOL_SIZE with SQLALCHEMY_MAX_OVERFLOW \
             ({in_all} in all) are one setting with two values"
        ));
    }
    (in_all, kept, overflow < 0)
}
