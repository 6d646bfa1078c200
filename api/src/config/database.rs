//! The database: which one, and how it is reached.
//!
//! Owns names, defaults and what is acceptable; opening it is the business of the stores. TLS to
//! PostgreSQL is not there yet, so whoever asks for it is refused: nothing is silently downgraded.

use std::{path::PathBuf, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};

use super::source::{Source, Spec};

const URL: Spec = Spec {
    names: &["DATABASE_URL"],
    about: "The database: a PostgreSQL server (a socket directory by `?host=/run/postgresql`) or a directory with a SQLite database.",
    allowed: "postgres://user:password@host:port/name or sqlite:/path/to/directory",
    secret: true,
};
const HOST: Spec = Spec {
    names: &["DB_HOST"],
    about: "Host of the PostgreSQL server, or the directory of its socket; without DATABASE_URL.",
    allowed: "a name, an address, or an absolute path",
    secret: false,
};
const PORT: Spec = Spec {
    names: &["DB_PORT"],
    about: "Port of the PostgreSQL server.",
    allowed: "1 to 65535",
    secret: false,
};
const NAME: Spec = Spec {
    names: &["DB_NAME"],
    about: "Name of the PostgreSQL database.",
    allowed: "any name",
    secret: false,
};
const USER: Spec = Spec {
    names: &["DB_USERNAME", "DB_USER"],
    about: "User of the PostgreSQL database.",
    allowed: "any name",
    secret: false,
};
const PASSWORD: Spec = Spec {
    names: &["DB_PASSWORD"],
    about: "Password of that user; none where the server asks for none.",
    allowed: "any text",
    secret: true,
};
const SSLMODE: Spec = Spec {
    names: &["DB_SSLMODE"],
    about: "Whether the connection to PostgreSQL is encrypted. Not available yet.",
    allowed: "disable or prefer (both unencrypted: TLS to the database is not available yet, and \
              stricter modes are refused rather than downgraded)",
    secret: false,
};
const CONNECTIONS: Spec = Spec {
    names: &["DB_MAX_OPEN_CONNECTIONS", "DB_POOL_SIZE"],
    about: "The most connections of one process to PostgreSQL.",
    allowed: "1 to 1000",
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

/// The database of one installation.
#[derive(Clone, Debug)]
pub enum Database {
    /// A PostgreSQL server.
    Postgres(Postgres),
    /// The directory of a SQLite database.
    Sqlite(PathBuf),
}

/// A PostgreSQL server, and what is asked of it.
#[derive(Clone, Debug)]
pub struct Postgres {
    /// How it is addressed.
    pub address: Address,
    /// The most connections.
    pub connections: usize,
    /// How long to wait for a connection.
    pub wait: Duration,
    /// How long a statement may take.
    pub statement: Duration,
}

/// How a PostgreSQL server is addressed.
#[derive(Clone, Debug)]
pub enum Address {
    /// By one URL, which may contain a password.
    Url(SecretString),
    /// By its parts.
    Parts {
        /// A name, an address, or the directory of a socket.
        host: String,
        /// Its port.
        port: u16,
        /// The database.
        name: String,
        /// The user.
        user: String,
        /// Its password.
        password: Option<SecretString>,
    },
}

impl Postgres {
    /// The server of that URL with defaults for the rest.
    #[must_use]
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            address: Address::Url(SecretString::from(url.into())),
            connections: DEFAULT_CONNECTIONS,
            wait: Duration::from_secs(DEFAULT_WAIT),
            statement: Duration::from_secs(DEFAULT_STATEMENT),
        }
    }
}

const DEFAULT_CONNECTIONS: usize = 20;
const DEFAULT_WAIT: u64 = 5;
const DEFAULT_STATEMENT: u64 = 30;

/// Reads which database is meant. `None`: none is named.
pub fn read(source: &mut Source) -> Option<Database> {
    let url = source.text(&URL).map(SecretString::from);
    let parts = read_parts(source);
    let connections = source.within(&CONNECTIONS, DEFAULT_CONNECTIONS, 1..=1000);
    let wait = Duration::from_secs(source.within(&WAIT, DEFAULT_WAIT, 1..=300));
    let statement = Duration::from_secs(source.within(&STATEMENT, DEFAULT_STATEMENT, 1..=3600));
    let address = match (&url, parts) {
        (Some(url), None) => Address::Url(url.clone()),
        (None, Some(parts)) => parts,
        (Some(_), Some(_)) => {
            source
                .error("DATABASE_URL and DB_HOST or DB_NAME are both set; name the database once");
            return None;
        }
        (None, None) => return None,
    };
    let postgres = Postgres { address, connections, wait, statement };
    match url {
        Some(url) => of_url(source, url.expose_secret(), postgres),
        None => Some(Database::Postgres(postgres)),
    }
}

fn of_url(source: &mut Source, url: &str, postgres: Postgres) -> Option<Database> {
    if let Some(path) = url.strip_prefix("sqlite:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() {
            source.reject(&URL, url);
            return None;
        }
        return Some(Database::Sqlite(PathBuf::from(path)));
    }
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        source.reject(&URL, url);
        return None;
    }
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let modes = query.split('&').filter_map(|pair| pair.strip_prefix("sslmode="));
    for mode in modes.filter(|mode| !UNENCRYPTED.contains(mode)) {
        source.error(format!(
            "sslmode={mode} in DATABASE_URL is not acceptable; allowed: {}",
            SSLMODE.allowed
        ));
    }
    Some(Database::Postgres(postgres))
}

const UNENCRYPTED: [&str; 2] = ["disable", "prefer"];

fn read_parts(source: &mut Source) -> Option<Address> {
    let named = source.text(&HOST);
    let name = source.text(&NAME);
    let port = source.within(&PORT, 5432, 1..=u16::MAX);
    let user = source.text(&USER);
    let password = source.text(&PASSWORD).map(SecretString::from);
    let mode = source.text(&SSLMODE);
    if let Some(mode) = mode.filter(|mode| !UNENCRYPTED.contains(&mode.as_str())) {
        source.reject(&SSLMODE, &mode);
    }
    if named.is_none() && name.is_none() {
        return None;
    }
    let or_original = |value: Option<String>| value.unwrap_or_else(|| "insights".to_owned());
    Some(Address::Parts {
        host: named.unwrap_or_else(|| "localhost".to_owned()),
        port,
        name: or_original(name),
        user: or_original(user),
        password,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(variables: &[(&str, &str)]) -> (Option<Database>, Result<String, String>) {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut source = Source::new(variables.iter().map(own).collect());
        let database = read(&mut source);
        let told = source.finish().map(|effective| format!("{effective:?}"));
        (database, told.map_err(|error| error.to_string()))
    }

    fn refused(variables: &[(&str, &str)]) -> String {
        reading(variables).1.unwrap_err()
    }

    #[test]
    fn nothing_named_is_nothing() {
        let (database, told) = reading(&[("DB_PASSWORD", "x")]);
        assert!(database.is_none() && told.is_ok());
    }

    #[test]
    fn the_names_of_the_original_work() {
        let (database, told) = reading(&[
            ("DB_HOST", "/run/postgresql"),
            ("DB_USER", "dispatcher"),
            ("DB_PASSWORD", "hunter2"),
            ("DB_MAX_OPEN_CONNECTIONS", "7"),
        ]);
        let Some(Database::Postgres(postgres)) = &database else { panic!("{database:?}") };
        assert_eq!(postgres.connections, 7);
        let Address::Parts { host, port, name, user, password } = &postgres.address else {
            panic!("{postgres:?}")
        };
        assert_eq!((host.as_str(), *port), ("/run/postgresql", 5432));
        assert_eq!((name.as_str(), user.as_str()), ("insights", "dispatcher"));
        assert!(password.is_some());
        assert!(!format!("{database:?}{}", told.unwrap()).contains("hunter2"));
    }

    #[test]
    fn urls_name_either_database() {
        let (database, told) = reading(&[("DATABASE_URL", "sqlite:/var/lib/d.db")]);
        assert!(matches!(database, Some(Database::Sqlite(path)) if path.ends_with("lib/d.db")));
        assert!(told.is_ok());
        let (database, told) =
            reading(&[("DATABASE_URL", "postgres:///d?host=/tmp&sslmode=prefer")]);
        assert!(matches!(database, Some(Database::Postgres(_))) && told.is_ok());
    }

    #[test]
    fn stricter_tls_is_refused_and_never_downgraded() {
        for mode in ["require", "verify-ca", "verify-full", "allow"] {
            let error = refused(&[("DB_HOST", "db"), ("DB_SSLMODE", mode)]);
            assert!(error.contains(mode) && error.contains("TLS"), "{error}");
            let url = format!("postgres://u:hunter2@db/d?sslmode={mode}");
            let error = refused(&[("DATABASE_URL", &url)]);
            assert!(error.contains(mode) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn mistakes_are_named_without_secrets() {
        let error = refused(&[("DATABASE_URL", "mysql://u:hunter2@db/d")]);
        assert!(error.contains("DATABASE_URL") && !error.contains("hunter2"), "{error}");
        assert!(refused(&[("DATABASE_URL", "sqlite:")]).contains("DATABASE_URL"));
        let both = refused(&[("DATABASE_URL", "sqlite:/x"), ("DB_HOST", "db")]);
        assert!(both.contains("name the database once"), "{both}");
        for (name, value) in
            [("DB_POOL_SIZE", "0"), ("DB_PORT", "0"), ("DB_STATEMENT_TIMEOUT", "9999")]
        {
            assert!(refused(&[("DB_HOST", "db"), (name, value)]).contains(name.split_at(3).0));
        }
    }
}
