//! The database: which one, and how it is addressed. How connections to PostgreSQL are made is in
//! [`super::postgres`].
//!
//! Owns names, defaults and what is acceptable; opening it is the business of the stores.

use std::{fmt, path::PathBuf, str::FromStr};

use percent_encoding::percent_decode_str;
use secrecy::SecretString;

use super::{
    postgres::{self, Named},
    source::{Source, Spec},
};

pub use super::postgres::{Postgres, PostgresTls, SslMode};

const URL: Spec = Spec {
    names: &["DATABASE_URL", "SQLALCHEMY_DATABASE_URI"],
    about: "The database: a PostgreSQL server (a socket directory by `?host=/run/postgresql`; of several hosts the one that takes writes; `sslmode`, `sslrootcert` and `target_session_attrs` as libpq has them) or a directory with a SQLite database.",
    allowed: "postgres://user:password@host:port,host:port/name or sqlite:/path/to/directory",
    secret: true,
};
const HOST: Spec = Spec {
    names: &["DB_HOST"],
    about: "Host of the PostgreSQL server, or the directory of its socket; without DATABASE_URL. Of several, the one that takes writes.",
    allowed: "names, addresses, or absolute paths, separated by commas",
    secret: false,
};
const PORT: Spec = Spec {
    names: &["DB_PORT"],
    about: "Port of the PostgreSQL server.",
    allowed: "1 to 65535; one, or as many as hosts, separated by commas",
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

/// The database of one installation.
#[derive(Clone, Debug)]
pub enum Database {
    /// A PostgreSQL server.
    Postgres(Postgres),
    /// The directory of a SQLite database.
    Sqlite(PathBuf),
}

/// How a PostgreSQL server is addressed.
#[derive(Clone, Debug)]
pub enum Address {
    /// By one URL, which may contain a password, without the parameters that are kept apart.
    Url(SecretString),
    /// By its parts.
    Parts {
        /// Names, addresses, or directories of sockets.
        hosts: Vec<String>,
        /// Its port, or one for each host.
        ports: Vec<u16>,
        /// The database.
        name: String,
        /// The user.
        user: String,
        /// Its password.
        password: Option<SecretString>,
    },
}

/// Ports, separated by commas.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Ports(Vec<u16>);

impl FromStr for Ports {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let port = |port: &str| port.trim().parse().ok().filter(|port| *port > 0).ok_or(());
        text.split(',').map(port).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&all.join(","))
    }
}

/// Reads which database is meant. `None`: none is named.
pub fn read(source: &mut Source) -> Option<Database> {
    let url = source.text(&URL);
    let parts = read_parts(source);
    let (url, named) = url.map_or((None, Named::default()), |url| {
        let (url, named) = split(&url);
        (Some(url), named)
    });
    let of_parts = url.is_none();
    let address = match (&url, parts) {
        (Some(url), None) => Some(Address::Url(SecretString::from(url.clone()))),
        (None, parts) => parts,
        (Some(_), Some(_)) => {
            source
                .error("DATABASE_URL and DB_HOST or DB_NAME are both set; name the database once");
            None
        }
    };
    let server = postgres::read(source, named, of_parts);
    let postgres = server.over(address?);
    match url {
        Some(url) => of_url(source, &url, postgres),
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
    Some(Database::Postgres(postgres))
}

/// The URL in the form that the driver knows, and the parameters that it does not know.
pub(super) fn split(url: &str) -> (String, Named) {
    let url = url.replacen("postgresql+psycopg2://", "postgresql://", 1);
    let mut named = Named::default();
    // A password may have a question mark.
    let host = url.find('@').map_or(0, |at| at + 1);
    let Some(start) = url.get(host..).and_then(|rest| rest.find('?')).map(|at| host + at) else {
        return (url, named);
    };
    let (head, query) = (url.get(..start).unwrap_or_default(), url.get(start + 1..));
    let mut kept = Vec::new();
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = || Some(percent_decode_str(value).decode_utf8_lossy().into_owned());
        match key {
            "sslmode" => named.mode = value(),
            "sslrootcert" => named.ca = value(),
            "target_session_attrs" => named.session = value(),
            _ => kept.push(pair),
        }
    }
    if kept.is_empty() {
        return (head.to_owned(), named);
    }
    (format!("{head}?{}", kept.join("&")), named)
}

fn read_parts(source: &mut Source) -> Option<Address> {
    let named = source.text(&HOST);
    let name = source.text(&NAME);
    let ports = source.parsed(&PORT, Ports(vec![5432])).0;
    let user = source.text(&USER);
    let password = source.text(&PASSWORD).map(SecretString::from);
    if named.is_none() && name.is_none() {
        return None;
    }
    let named = named.unwrap_or_else(|| "localhost".to_owned());
    let hosts: Vec<String> = named.split(',').map(|host| host.trim().to_owned()).collect();
    if hosts.iter().any(String::is_empty) {
        source.reject(&HOST, &named);
    }
    if ports.len() > 1 && ports.len() != hosts.len() {
        source.error(format!(
            "DB_PORT has {} ports for {} hosts of DB_HOST; give one for all, or one for each",
            ports.len(),
            hosts.len()
        ));
    }
    let or_original = |value: Option<String>| value.unwrap_or_else(|| "insights".to_owned());
    Some(Address::Parts {
        hosts,
        ports,
        name: or_original(name),
        user: or_original(user),
        password,
    })
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

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
        let Address::Parts { hosts, ports, name, user, password } = &postgres.address else {
            panic!("{postgres:?}")
        };
        assert_eq!(
            (hosts.as_slice(), ports.as_slice()),
            (&["/run/postgresql".to_owned()][..], &[5432][..])
        );
        assert_eq!(postgres.tls.mode, SslMode::Disable);
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

    fn postgres(variables: &[(&str, &str)]) -> Postgres {
        let (database, told) = reading(variables);
        let Some(Database::Postgres(postgres)) = database else { panic!("{told:?}") };
        told.unwrap();
        postgres
    }

    #[test]
    fn the_six_modes_are_read_from_either_place() {
        for mode in ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] {
            let parts = [("DB_HOST", "db"), ("DB_SSLMODE", mode), ("DB_CA", "/ca.pem")];
            let read = postgres(&parts).tls;
            assert_eq!((read.mode.to_string().as_str(), read.ca.is_some()), (mode, true));
            let url = format!("postgres://u:hunter2@db/d?sslmode={mode}&sslrootcert=%2Fca.pem&x=y");
            let read = postgres(&[("DATABASE_URL", &url)]);
            assert_eq!(read.tls.mode.to_string(), mode);
            assert_eq!(read.tls.ca.as_deref(), Some(std::path::Path::new("/ca.pem")));
            let Address::Url(url) = read.address else { panic!("it was a URL") };
            assert_eq!(url.expose_secret(), "postgres://u:hunter2@db/d?x=y");
        }
        assert_eq!(postgres(&[("DATABASE_URL", "postgres://db/d")]).tls.mode, SslMode::Prefer);
    }

    #[test]
    fn modes_and_authorities_that_contradict_are_refused() {
        let url = "postgres://u:hunter2@db/d?sslmode=verify-full";
        let error = refused(&[("DATABASE_URL", url), ("DB_SSLMODE", "prefer")]);
        assert!(error.contains("DB_SSLMODE") && !error.contains("hunter2"), "{error}");
        let error = refused(&[("DB_HOST", "db"), ("DB_SSLMODE", "strict")]);
        assert!(error.contains("DB_SSLMODE=strict") && error.contains("verify-full"), "{error}");
        let error = refused(&[("DB_HOST", "db"), ("DB_SSLMODE", "verify-ca")]);
        assert!(error.contains("DB_CA"), "{error}");
        let error = refused(&[("DB_HOST", "db"), ("DB_CA", "ca.pem")]);
        assert!(error.contains("DB_CA=ca.pem"), "{error}");
        let standby = "postgres://u:hunter2@db/d?target_session_attrs=standby";
        let error = refused(&[("DATABASE_URL", standby)]);
        assert!(error.contains("read-write") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn several_hosts_may_have_several_ports() {
        let read = postgres(&[("DB_HOST", "h1, h2"), ("DB_PORT", "1,2")]);
        let Address::Parts { hosts, ports, .. } = read.address else { panic!("they are parts") };
        assert_eq!((hosts, ports), (vec!["h1".to_owned(), "h2".to_owned()], vec![1, 2]));
        assert!(refused(&[("DB_HOST", "h1,h2,h3"), ("DB_PORT", "1,2")]).contains("DB_PORT"));
        assert!(refused(&[("DB_HOST", "h1,,h3")]).contains("DB_HOST"));
    }

    #[test]
    fn pools_have_the_names_of_sqlalchemy_and_of_go() {
        let host = ("DB_HOST", "db");
        let sizes = |variables: &[(&str, &str)]| {
            let read = postgres(&[&[host], variables].concat());
            (read.kept, read.connections, read.unlimited)
        };
        assert_eq!(sizes(&[]), (10, 20, false));
        let overflow = |text| [("SQLALCHEMY_POOL_SIZE", "5"), ("SQLALCHEMY_MAX_OVERFLOW", text)];
        assert_eq!(sizes(&overflow("25")), (5, 30, false));
        assert_eq!(sizes(&overflow("-1")), (5, 1000, true));
        assert_eq!(sizes(&[("DB_MAX_IDLE_CONNECTIONS", "3")]), (3, 20, false));
        assert_eq!(sizes(&[("DB_MAX_OPEN_CONNECTIONS", "7")]), (7, 7, false));
        let both = [&[host][..], &overflow("25"), &[("DB_MAX_OPEN_CONNECTIONS", "7")]].concat();
        assert!(refused(&both).contains("SQLALCHEMY_MAX_OVERFLOW"));
    }

    #[test]
    fn sqlalchemys_form_of_the_url_is_understood() {
        let uri = "postgresql+psycopg2://u:p%3F@db/d?sslmode=require";
        let read = postgres(&[("SQLALCHEMY_DATABASE_URI", uri)]);
        let Address::Url(url) = read.address else { panic!("it was a URL") };
        assert_eq!(url.expose_secret(), "postgresql://u:p%3F@db/d");
        assert_eq!(read.tls.mode, SslMode::Require);
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
