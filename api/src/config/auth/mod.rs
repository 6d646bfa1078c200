//! Who may call: the SSO server, the state that instances share in Redis, and how old it may get.
//!
//! Keys of services are in `secrets.rs`; whose identity header is believed is in `http.rs`.

use std::{net::SocketAddr, time::Duration};

use secrecy::SecretString;

use super::source::{Source, Spec};

mod roles;

pub use roles::{RoleMap, SsoRole};

const SSO_URL: Spec = Spec {
    names: &["SSO_URL"],
    about: "The Keycloak server whose tokens are accepted; with SSO_REALM. Whether its paths begin \
            with /auth is found out.",
    allowed: "https://host[:port][/path], or http:// where the way to it is private",
    secret: false,
};
const SSO_REALM: Spec = Spec {
    names: &["SSO_REALM"],
    about: "The realm on that server.",
    allowed: "a name without slashes",
    secret: false,
};
const SSO_ISSUER: Spec = Spec {
    names: &["SSO_ISSUER"],
    about: "Issuer of the tokens: any OpenID Connect server, where SSO_URL is not set; with \
            SSO_URL, the issuer that the server reached there must call itself.",
    allowed: "https://host[:port][/path], or http:// where the way to it is private",
    secret: false,
};
const SSO_PUBLIC_KEY: Spec = Spec {
    names: &["SSO_PUBLIC_KEY"],
    about: "RSA public key of the SSO server, for RS256: in use as long as the server's own keys \
            have never been fetched.",
    allowed: "PEM; line ends may be written as \\n",
    secret: false,
};
const SSO_REFRESH: Spec = Spec {
    names: &["SSO_REFRESH"],
    about: "Seconds between two fetches of the SSO server's keys; an unknown key is asked for at \
            once, at most every 10 s.",
    allowed: "5 to 86400",
    secret: false,
};
const SSO_AUDIENCES: Spec = Spec {
    names: &["SSO_AUDIENCES"],
    about: "What the audience of a token must contain, one of.",
    allowed: "names, separated by commas",
    secret: false,
};
const SSO_CLIENT_ID: Spec = Spec {
    names: &["SSO_CLIENT_ID"],
    about: "The public client with which people log in on the command line.",
    allowed: "any name",
    secret: false,
};
const SSO_ORG_CLAIM: Spec = Spec {
    names: &["SSO_ORG_CLAIM"],
    about: "The claim of a token that names the organisation; dots lead into objects, of several \
            the first that is there counts.",
    allowed: "names, separated by commas",
    secret: false,
};
const SSO_ROLE_MAP: Spec = Spec {
    names: &["SSO_ROLE_MAP"],
    about: "Which realm role or group of a token gives which role here; the highest counts, and \
            whoever has none is refused. Without it everybody with a token is an operator.",
    allowed: "<theirs>=<reader, operator or admin>, separated by commas",
    secret: false,
};
const SSO_READ_ONLY_GROUP: Spec = Spec {
    names: &["SSO_READ_ONLY_GROUP"],
    about: "A realm role or group whose members are readers and nothing else, whatever other \
            roles they have.",
    allowed: "a name",
    secret: false,
};
const REDIS_URL: Spec = Spec {
    names: &["REDIS_URL", "DCI_REDIS_URL"],
    about: "Redis, where the tracker keeps the authentication state for all instances, and where they \
            keep to one limit on messages to Cloud Connector. Without it, every instance asks the \
            database and the SSO server itself, and has a limit of its own.",
    allowed: "redis://[user:password@]host[:port][,host…][/database], or rediss:// with TLS; of \
              several the one that takes writes is asked",
    secret: true,
};
const MAX_STALENESS: Spec = Spec {
    names: &["AUTH_MAX_STALENESS"],
    about: "Seconds for which keys are believed after their source was last heard; then requests \
            that need them are answered with 503.",
    allowed: "60 to 86400",
    secret: false,
};
const INTERVAL: Spec = Spec {
    names: &["LAST_AUTH_INTERVAL"],
    about: "Seconds after which times of last authentication are written to the database; the \
            tracker's --interval.",
    allowed: "1 to 86400",
    secret: false,
};
const THRESHOLD: Spec = Spec {
    names: &["LAST_AUTH_THRESHOLD"],
    about: "How many changed times of last authentication are written without waiting for that; \
            the tracker's --threshold.",
    allowed: "1 to 1000000",
    secret: false,
};
const TRACKER_METRICS: Spec = Spec {
    names: &["TRACKER_METRICS_PORT"],
    about: "Port of the tracker's metrics and probes, on every address.",
    allowed: "0 to 65535; 0 is any free one",
    secret: false,
};

/// Who may call.
#[derive(Clone, Debug)]
pub struct AuthSettings {
    /// The SSO server; `None`: no tokens.
    pub sso: Option<SsoSettings>,
    /// The address of Redis, which may contain a password; `None`: the sources are asked directly.
    pub redis: Option<SecretString>,
    /// How long keys are believed without their source.
    pub max_staleness: Duration,
    /// When times of last authentication are written.
    pub last_auth: LastAuthSettings,
    /// Where the tracker's metrics and probes are.
    pub tracker_metrics: SocketAddr,
}

/// The SSO server, and what its tokens mean.
#[derive(Clone, Debug)]
pub struct SsoSettings {
    /// Where it is, or which key it has.
    pub server: SsoServer,
    /// One of them must be in the audience.
    pub audiences: Vec<String>,
    /// For people who log in on the command line.
    pub client_id: String,
    /// Where the organisation stands, the first that is there.
    pub org_claims: Vec<String>,
    /// Their roles and ours; `None`: everybody is an operator.
    pub roles: Option<RoleMap>,
    /// Its members only look.
    pub read_only_group: Option<String>,
}

/// Where keys of the SSO server come from.
#[derive(Clone, Debug)]
pub struct SsoServer {
    /// The Keycloak server and its realm.
    pub realm: Option<(String, String)>,
    /// The issuer, where it is named.
    pub issuer: Option<String>,
    /// The key in use as long as none was fetched.
    pub public_key: Option<String>,
    /// Between two fetches.
    pub refresh: Duration,
}

/// When times of last authentication are written to the database.
#[derive(Clone, Copy, Debug)]
pub struct LastAuthSettings {
    /// After so long.
    pub interval: Duration,
    /// Or when so many have changed.
    pub threshold: usize,
}

impl AuthSettings {
    /// Reads them.
    pub fn read(source: &mut Source) -> Self {
        let sso = read_sso(source);
        let redis = read_redis(source);
        let max_staleness = source.within(&MAX_STALENESS, 900, 60..=86_400);
        let interval = source.within(&INTERVAL, 30, 1..=86_400);
        let threshold = source.within(&THRESHOLD, 10, 1..=1_000_000);
        let port = source.parsed(&TRACKER_METRICS, 9002_u16);
        Self {
            sso,
            redis,
            max_staleness: Duration::from_secs(max_staleness),
            last_auth: LastAuthSettings { interval: Duration::from_secs(interval), threshold },
            tracker_metrics: ([0, 0, 0, 0], port).into(),
        }
    }
}

fn read_sso(source: &mut Source) -> Option<SsoSettings> {
    let url = address(source, &SSO_URL);
    let realm = source.text(&SSO_REALM);
    let issuer = address(source, &SSO_ISSUER);
    let public_key = source.text(&SSO_PUBLIC_KEY).map(|pem| pem.replace("\\n", "\n"));
    let refresh = Duration::from_secs(source.within(&SSO_REFRESH, 60, 5..=86_400));
    let audiences = names(source, &SSO_AUDIENCES, "dispatcher-api");
    let settings = SsoSettings {
        audiences,
        client_id: source.parsed(&SSO_CLIENT_ID, "dispatchctl".to_owned()),
        org_claims: names(source, &SSO_ORG_CLAIM, "organization.id,org_id"),
        roles: role_map(source),
        read_only_group: source.text(&SSO_READ_ONLY_GROUP),
        server: SsoServer { realm: both(source, url, realm), issuer, public_key, refresh },
    };
    let SsoServer { realm, issuer, public_key, .. } = &settings.server;
    let named = realm.is_some() || issuer.is_some();
    if public_key.is_some() && !named {
        source.error(
            "SSO_PUBLIC_KEY needs the issuer of the tokens too: set SSO_ISSUER, or SSO_URL and \
             SSO_REALM",
        );
    }
    named.then_some(settings)
}

/// The server and its realm, which belong together.
fn both(
    source: &mut Source,
    url: Option<String>,
    realm: Option<String>,
) -> Option<(String, String)> {
    match (url, realm) {
        (Some(url), Some(realm)) if !realm.contains('/') => Some((url, realm)),
        (Some(_), Some(realm)) => {
            source.reject(&SSO_REALM, &realm);
            None
        }
        (None, None) => None,
        _ => {
            source.error("SSO_URL and SSO_REALM belong together; set both or none of them");
            None
        }
    }
}

/// An address without the slash at its end.
fn address(source: &mut Source, spec: &Spec) -> Option<String> {
    let text = source.text(spec)?;
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let plain = |rest: &str| !rest.is_empty() && !rest.contains(['?', '#', '@', ' ']);
    if !rest.is_some_and(plain) {
        source.reject(spec, &text);
        return None;
    }
    Some(text.trim_end_matches('/').to_owned())
}

/// At least one name.
fn names(source: &mut Source, spec: &Spec, default: &str) -> Vec<String> {
    let text = source.parsed(spec, default.to_owned());
    let names = text.split(',').map(|name| name.trim().to_owned());
    let names: Vec<String> = names.filter(|name| !name.is_empty()).collect();
    if names.is_empty() {
        source.reject(spec, &text);
    }
    names
}

fn role_map(source: &mut Source) -> Option<RoleMap> {
    let text = source.text(&SSO_ROLE_MAP)?;
    let map = text.parse().ok();
    if map.is_none() {
        source.reject(&SSO_ROLE_MAP, &text);
    }
    map
}

fn read_redis(source: &mut Source) -> Option<SecretString> {
    let url = source.text(&REDIS_URL)?;
    if !["redis://", "rediss://"].iter().any(|scheme| url.starts_with(scheme)) {
        source.reject(&REDIS_URL, "");
        return None;
    }
    Some(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(variables: &[(&str, &str)]) -> (AuthSettings, Result<String, String>) {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut source = Source::new(variables.iter().map(own).collect());
        let settings = AuthSettings::read(&mut source);
        let told = source.finish().map(|effective| format!("{effective:?}"));
        (settings, told.map_err(|error| error.to_string()))
    }

    #[test]
    fn nothing_set_is_no_sso_and_no_redis() {
        let (settings, told) = reading(&[]);
        assert!(settings.sso.is_none() && settings.redis.is_none() && told.is_ok());
        assert_eq!(settings.max_staleness, Duration::from_secs(900));
        assert_eq!(settings.tracker_metrics.port(), 9002);
    }

    #[test]
    fn a_keycloak_server_is_named_as_the_role_names_it() {
        let (settings, told) = reading(&[
            ("SSO_URL", "https://sso.example.com/"),
            ("SSO_REALM", "redhat-external"),
            ("SSO_PUBLIC_KEY", "-----BEGIN PUBLIC KEY-----\\nAAAA\\n-----END PUBLIC KEY-----"),
            ("SSO_AUDIENCES", "api.dci, dci"),
            ("SSO_ORG_CLAIM", "organization.id"),
            ("DCI_REDIS_URL", "redis://u:hunter2@redis:6379/0"),
        ]);
        let shown = format!("{settings:?}{told:?}");
        assert!(told.is_ok() && !shown.contains("hunter2"), "{shown}");
        let sso = settings.sso.unwrap();
        let realm = ("https://sso.example.com".to_owned(), "redhat-external".to_owned());
        assert_eq!(sso.server.realm, Some(realm));
        assert_eq!(sso.server.public_key.unwrap().lines().count(), 3);
        assert_eq!((sso.audiences.len(), sso.org_claims.len()), (2, 1));
    }

    #[test]
    fn halves_and_nonsense_are_named() {
        for (variables, word) in [
            (&[("SSO_URL", "https://sso")][..], "belong together"),
            (&[("SSO_REALM", "r")], "belong together"),
            (&[("SSO_URL", "sso.example.com"), ("SSO_REALM", "r")], "SSO_URL=sso.example.com"),
            (&[("SSO_URL", "https://sso"), ("SSO_REALM", "a/b")], "SSO_REALM=a/b"),
            (&[("SSO_ISSUER", "https://u:p@sso")], "SSO_ISSUER"),
            (&[("SSO_PUBLIC_KEY", "x")], "SSO_PUBLIC_KEY needs"),
            (&[("SSO_ROLE_MAP", "a=root")], "SSO_ROLE_MAP=a=root"),
            (&[("SSO_AUDIENCES", ",")], "SSO_AUDIENCES=,"),
            (&[("SSO_ORG_CLAIM", " ")], "SSO_ORG_CLAIM= "),
            (&[("REDIS_URL", "http://hunter2")], "REDIS_URL=***"),
            (&[("AUTH_MAX_STALENESS", "0")], "AUTH_MAX_STALENESS=0"),
            (&[("LAST_AUTH_THRESHOLD", "0")], "LAST_AUTH_THRESHOLD=0"),
        ] {
            let error = reading(variables).1.unwrap_err();
            assert!(error.contains(word) && !error.contains("hunter2"), "{error}");
        }
    }
}
