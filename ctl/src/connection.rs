//! Where a command goes to, with which key, for which organisation, and where each of these came
//! from, so that an error can say it. Decides what a key may be sent to; sends nothing.
//!
//! A key belongs to an address. It is never taken along to another one that was named by an option
//! or the environment, and never sent in the clear to another machine unless its context says so.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::{
    cli::At,
    context::file::{self, Contexts},
    inputs,
    login::session::Session,
    trouble::{Result, Trouble},
};

/// The longest key.
const MAX_KEY: usize = 1024;

/// A pre-shared key. Its `Debug` hides it.
#[derive(Clone, Deserialize, PartialEq, Serialize)]
#[serde(try_from = "String")]
pub(crate) struct Key(String);

impl Key {
    /// A key from this place, without white space around it.
    pub(crate) fn parse(text: &str, from: &str) -> Result<Self> {
        let key = text.trim();
        let allowed = !key.is_empty() && key.len() <= MAX_KEY;
        if allowed && key.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Ok(Self(key.to_owned()));
        }
        Err(Trouble::usage(format!(
            "what {from} holds is not a key: a key is 1 to {MAX_KEY} letters and digits"
        )))
    }

    fn read(path: &Path) -> Result<Self> {
        Self::parse(&inputs::read_text(path, "the key")?, &format!("`{}`", path.display()))
    }

    /// For the Authorization header, and nothing else.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Key {
    type Error = &'static str;

    fn try_from(text: String) -> std::result::Result<Self, Self::Error> {
        Self::parse(&text, "it").map_err(|_| "not a key")
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

/// Something and where it came from.
#[derive(Clone, Debug)]
pub(crate) struct Sourced<T> {
    pub(crate) value: T,
    pub(crate) from: String,
}

/// Where to, as whom.
#[derive(Clone, Debug)]
pub(crate) struct Connection {
    /// The dispatcher's address.
    pub(crate) url: Sourced<Url>,
    /// The key to show.
    pub(crate) key: Option<Sourced<Key>>,
    /// The login to use; then there is no key.
    pub(crate) login: Option<Sourced<Arc<Session>>>,
    /// The organisation.
    pub(crate) org: Option<Sourced<String>>,
}

/// What `standalone` leaves for those who want to talk to it.
#[derive(Deserialize)]
struct Standalone {
    url: String,
    org_id: String,
    key_file: PathBuf,
}

/// A context, or what stands in for one.
struct Place {
    url: Sourced<Url>,
    key: Option<KeyAt>,
    login: Option<Sourced<Arc<Session>>>,
    org: Option<Sourced<String>>,
    insecure: bool,
}

/// A key that is read only when it is to be used.
enum KeyAt {
    Given(Sourced<Key>),
    File(Sourced<PathBuf>),
}

/// A variable of the environment; an empty one counts as absent.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

impl Connection {
    /// What options, environment, contexts and a standalone dispatcher say.
    pub(crate) fn resolve(at: &At) -> Result<Self> {
        Self::resolve_with(at, &variable)
    }

    fn resolve_with(at: &At, var: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let place = place(at, var)?;
        let named = option_or(at.url.clone(), "--url", var, "DISPATCHER_URL")
            .map(|named| parse_url(&named.value, named.from))
            .transpose()?;
        let same = matches!((&named, &place), (Some(named), Some(place))
            if named.value.origin() == place.url.value.origin());
        let own_key = key_from_options(at, var)?;
        let org = option_or(at.org.clone(), "--org", var, "DISPATCHER_ORG");
        let (place, strange) = match (place, named.is_some() && !same) {
            (place, true) => {
                (None, place.is_some_and(|place| place.key.is_some() || place.login.is_some()))
            }
            (place, false) => (place, false),
        };
        if strange && own_key.is_none() {
            return Err(foreign_key(named.as_ref()));
        }
        let insecure = place.as_ref().is_some_and(|place| place.insecure);
        let (place_url, place_key, place_login, place_org) =
            place.map_or((None, None, None, None), |p| (Some(p.url), p.key, p.login, p.org));
        let login = place_login.filter(|_| own_key.is_none());
        let key = match (own_key, &login) {
            (Some(key), _) => Some(key),
            (None, Some(_)) => None,
            (None, None) => place_key.map(KeyAt::open).transpose()?,
        };
        let url = named.or(place_url).ok_or_else(nowhere)?;
        let connection = Self { url, key, login, org: org.or(place_org) };
        connection.refuse_leak(insecure)?;
        Ok(connection)
    }

    /// To this address, as nobody.
    pub(crate) fn anonymous(url: &str, from: &str) -> Result<Self> {
        let url = parse_url(url, from.to_owned())?;
        Ok(Self { url, key: None, login: None, org: None })
    }

    /// What the options say, with the context's login even where the environment holds a key.
    pub(crate) fn of_login(at: &At) -> Result<Self> {
        Self::resolve_with(at, &|name| {
            let other = matches!(name, "DISPATCHER_KEY" | "DISPATCHER_URL");
            if other { None } else { variable(name) }
        })
    }

    fn refuse_leak(&self, insecure: bool) -> Result<()> {
        if self.key.is_none() && self.login.is_none()
            || insecure
            || self.is_encrypted()
            || self.is_loopback()
        {
            return Ok(());
        }
        Err(Trouble::usage(format!(
            "the key is not sent to {} over plain http, where others can read it",
            self.url.value
        ))
        .hint("use https, or accept it for this address:\ndispatchctl context set NAME --url URL --insecure"))
    }

    fn is_encrypted(&self) -> bool {
        self.url.value.scheme() == "https"
    }

    /// Whether the address is on this machine, so that no proxy is asked and nobody listens.
    pub(crate) fn is_loopback(&self) -> bool {
        is_loopback(&self.url.value)
    }
}

impl KeyAt {
    fn open(self) -> Result<Sourced<Key>> {
        match self {
            Self::Given(key) => Ok(key),
            Self::File(file) => {
                let from = format!("{} ({})", file.from, file.value.display());
                Ok(Sourced { value: Key::read(&file.value)?, from })
            }
        }
    }
}

/// Whether an address is on this machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

fn option_or(
    option: Option<String>,
    name: &str,
    var: &dyn Fn(&str) -> Option<String>,
    variable: &str,
) -> Option<Sourced<String>> {
    let from = |value, from: &str| Sourced { value, from: from.to_owned() };
    option
        .map(|value| from(value, name))
        .or_else(|| var(variable).map(|value| from(value, variable)))
}

fn key_from_options(at: &At, var: &dyn Fn(&str) -> Option<String>) -> Result<Option<Sourced<Key>>> {
    if let Some(path) = &at.key_file {
        return Ok(Some(Sourced {
            value: Key::read(path)?,
            from: format!("`{}`", path.display()),
        }));
    }
    let Some(text) = var("DISPATCHER_KEY") else { return Ok(None) };
    let from = "DISPATCHER_KEY".to_owned();
    Ok(Some(Sourced { value: Key::parse(&text, &from)?, from }))
}

/// The context that is named; else a standalone dispatcher where the environment names its folder;
/// else the current context; else a standalone dispatcher of this folder.
fn place(at: &At, var: &dyn Fn(&str) -> Option<String>) -> Result<Option<Place>> {
    let named = at.context.clone().or_else(|| var("DISPATCHER_CONTEXT"));
    let folder = var("DISPATCHER_DATA_DIR").map(PathBuf::from);
    if let (None, Some(folder)) = (&named, folder) {
        return of_standalone(&folder)?.map(Some).ok_or_else(|| {
            Trouble::usage(format!(
                "DISPATCHER_DATA_DIR names `{}`, but no standalone dispatcher runs there",
                folder.display()
            ))
            .hint("start it with `dispatcher-api standalone`, or unset DISPATCHER_DATA_DIR")
        });
    }
    // A command that has everything it needs works without a home.
    let path = file::path(var);
    let (path, contexts) = match path {
        Ok(path) => (path.clone(), Contexts::load(&path)?),
        Err(trouble) if named.is_some() => return Err(trouble),
        Err(_) => (PathBuf::new(), Contexts::default()),
    };
    match named.or_else(|| contexts.current.clone()) {
        Some(name) => of_context(&path, &contexts, &name).map(Some),
        None => of_standalone(Path::new("./data")),
    }
}

fn of_context(path: &Path, contexts: &Contexts, name: &str) -> Result<Place> {
    let context = contexts.get(name)?;
    let from = format!("context `{name}`");
    let key = match (&context.key, &context.key_file) {
        (Some(key), _) => Some(KeyAt::Given(Sourced { value: key.clone(), from: from.clone() })),
        (None, Some(file)) => {
            Some(KeyAt::File(Sourced { value: file.clone(), from: from.clone() }))
        }
        (None, None) => None,
    };
    Ok(Place {
        url: parse_url(&context.url, from.clone())?,
        key,
        login: context.login.clone().map(|login| Sourced {
            value: Arc::new(Session::new(path.to_owned(), name.to_owned(), login)),
            from: from.clone(),
        }),
        org: context.org.clone().map(|value| Sourced { value, from }),
        insecure: context.insecure,
    })
}

fn of_standalone(folder: &Path) -> Result<Option<Place>> {
    let path = folder.join("standalone.json");
    if !path.is_file() {
        return Ok(None);
    }
    let from = format!("`{}`", path.display());
    let text = inputs::read_text(&path, "where the standalone dispatcher is")?;
    let found: Standalone = serde_json::from_str(&text).map_err(|error| {
        Trouble::usage(format!("{from} is not what standalone writes: {error}"))
    })?;
    let url = parse_url(&found.url, from.clone())?;
    // This file may lie in any folder somebody changes into: it must not lead a key elsewhere.
    if !is_loopback(&url.value) {
        return Err(Trouble::usage(format!(
            "{from} names {}, which is not on this machine",
            url.value
        ))
        .hint("a dispatcher elsewhere needs a context: dispatchctl context set NAME --url URL"));
    }
    let key_file = folder.join(&found.key_file);
    let key_file = if key_file.is_file() { key_file } else { found.key_file };
    Ok(Some(Place {
        url,
        key: Some(KeyAt::File(Sourced { value: key_file, from: from.clone() })),
        login: None,
        org: Some(Sourced { value: found.org_id, from }),
        insecure: false,
    }))
}

/// An address that can be a dispatcher's.
pub(crate) fn parse_url(text: &str, from: String) -> Result<Sourced<Url>> {
    let wrong = |why: &str| {
        Trouble::usage(format!("`{text}` (from {from}) is not a dispatcher's address: {why}"))
            .hint("allowed: http://HOST:PORT or https://HOST, with a path where it is behind one")
    };
    let url = Url::parse(text).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("it begins with neither http:// nor https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        // Not quoted: the password is in it.
        return Err(Trouble::usage(format!("the address from {from} must not hold a password")));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it has a query or a fragment"));
    }
    Ok(Sourced { value: url, from })
}

fn foreign_key(named: Option<&Sourced<Url>>) -> Trouble {
    let url =
        named.map(|named| format!("{} (from {})", named.value, named.from)).unwrap_or_default();
    Trouble::usage(format!("the context's key belongs to another address than {url}"))
        .hint("name the key to use with --key-file or DISPATCHER_KEY, or leave out the address")
}

fn nowhere() -> Trouble {
    Trouble::usage(
        "no dispatcher is named: there is no context, no --url and no ./data/standalone.json",
    )
    .hint(
        "start one here:   dispatcher-api standalone\n\
             or name one:      dispatchctl context set NAME --url URL --org ORG --key-file FILE",
    )
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
