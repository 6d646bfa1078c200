//! Fetches a playbook: over https, or http from this host itself; bounded in size, time and
//! redirects. Error texts name the address without its query, which may be signed.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use dispatcher_wire::event::error_code;
use reqwest::{Client, Response, StatusCode, Url, header, redirect::Policy};
use tokio::{fs::OpenOptions, io::AsyncWriteExt};

use crate::{
    backoff::Backoff,
    config::{AgentConfig, FetchLimits},
    outbound::{Outbound, causes},
    plain_http::PlainHttp,
    prepare::{Private, SINGLE_PLAYBOOK},
    unpack::{Kind, entry_in, kind_of, unpack},
    verify::Claimed,
};

/// Header that names the playbook inside a bundle.
pub(crate) const ENTRY_HEADER: &str = "dispatcher-playbook-entry";
/// The playbook of a bundle that names none.
const DEFAULT_ENTRY: &str = "site.yml";
/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How often a fetch is begun where the server says that it is away for the moment.
const ATTEMPTS: u32 = 6;
/// How often it is begun where nobody answers at all, which takes a second or so: long enough for a
/// server that restarts, and a wrong address is said soon.
const ATTEMPTS_TO_CONNECT: u32 = 4;

/// Why there is no playbook.
#[derive(Debug)]
pub(crate) struct FetchError {
    /// One of [`error_code`].
    pub(crate) code: &'static str,
    /// For people.
    pub(crate) why: String,
}

impl FetchError {
    const fn new(why: String) -> Self {
        Self { code: error_code::UNDEFINED, why }
    }
}

/// Puts the playbook into its place, where it is the one that was meant, and says its path there.
pub(crate) async fn fetch(
    address: &str,
    private: &Private,
    config: &AgentConfig,
    claimed: Claimed,
) -> Result<PathBuf, FetchError> {
    let (limits, outbound) = (&config.fetch, &config.outbound);
    let url = Url::parse(address).map_err(|error| {
        FetchError::new(format!("the playbook's address is not a URL: {error}"))
    })?;
    let shown = without_query(&url);
    let told = |why: String| {
        FetchError::new(format!("the playbook cannot be fetched from {shown}: {why}"))
    };
    check(&url, &limits.plain_http).map_err(told)?;
    let trying = with_patience(&url, private, limits, outbound);
    let fetched = tokio::time::timeout(limits.time, trying).await;
    let fetched = fetched
        .map_err(|_| told(format!("it takes longer than {} seconds", limits.time.as_secs())))?
        .map_err(told)?;
    let (private, limits, verify) = (private.clone(), limits.clone(), config.verify.clone());
    let placing = tokio::task::spawn_blocking(move || {
        let verified = verify.check(&private.download(), &claimed);
        verified.map_err(Unplaced::Unverified)?;
        place(fetched, &private, &limits).map_err(Unplaced::Unusable)
    });
    match placing.await.map_err(|error| told(error.to_string()))? {
        Ok(playbook) => Ok(playbook),
        Err(Unplaced::Unusable(why)) => Err(told(why)),
        Err(Unplaced::Unverified(why)) => Err(FetchError {
            code: error_code::SIGNATURE_INVALID,
            why: format!("the playbook from {shown} is not executed: {why}"),
        }),
    }
}

/// Why a playbook that came is not put into its place.
enum Unplaced {
    Unverified(String),
    Unusable(String),
}

/// Only https, or http where it cannot be listened to or was allowed.
fn check(url: &Url, plain_http: &PlainHttp) -> Result<(), String> {
    match url.scheme() {
        "https" => Ok(()),
        "http" if plain_http.allows(url) => Ok(()),
        "http" => {
            Err("plain http is allowed from this host only; use https, or allow plain http in \
                       the worker's settings"
                .to_owned())
        }
        scheme => Err(format!("scheme {scheme} is not allowed, only https")),
    }
}

/// As [`check`], and never from https to http, not even to this host: whoever answers there could
/// put another playbook in the place of the one that was asked for.
fn check_redirect(from: Option<&Url>, to: &Url, plain_http: &PlainHttp) -> Result<(), String> {
    if from.is_some_and(|from| from.scheme() == "https") && to.scheme() == "http" {
        return Err("from https to plain http, which is never followed".to_owned());
    }
    check(to, plain_http)
}

fn without_query(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{host}{port}{}", url.scheme(), url.path())
}

/// What came.
struct Fetched {
    entry: Option<String>,
    is_tar: bool,
}

enum Trouble {
    /// Nobody answers.
    Unreachable(String),
    /// The server is away, or says that it is: another attempt may help.
    Passing(String),
    /// No other attempt helps.
    Lasting(String),
}

async fn with_patience(
    url: &Url,
    private: &Private,
    limits: &FetchLimits,
    outbound: &Outbound,
) -> Result<Fetched, String> {
    let client = client(url, limits, outbound)?;
    let mut backoff = Backoff::default();
    let mut attempts = 0;
    loop {
        attempts += 1;
        let (most, why) = match attempt(&client, url, &private.download(), limits.bytes).await {
            Ok(fetched) => return Ok(fetched),
            Err(Trouble::Lasting(why)) => return Err(why),
            Err(Trouble::Passing(why)) => (ATTEMPTS, why),
            Err(Trouble::Unreachable(why)) => (ATTEMPTS_TO_CONNECT, why),
        };
        if attempts >= most {
            return Err(why);
        }
        backoff.pause().await;
    }
}

fn client(url: &Url, limits: &FetchLimits, outbound: &Outbound) -> Result<Client, String> {
    let (plain_http, redirects) = (limits.plain_http.clone(), limits.redirects);
    let policy = Policy::custom(move |attempt| {
        if attempt.previous().len() > redirects {
            return attempt.error(format!("there are more than {redirects} redirects"));
        }
        let from = attempt.previous().last();
        match check_redirect(from, attempt.url(), &plain_http) {
            Ok(()) => attempt.follow(),
            Err(why) => attempt.error(format!("it redirects elsewhere: {why}")),
        }
    });
    let builder = outbound.builder(url).redirect(policy).connect_timeout(CONNECT_WITHIN);
    builder.build().map_err(|error| causes(&error))
}

async fn attempt(client: &Client, url: &Url, to: &Path, most: u64) -> Result<Fetched, Trouble> {
    let sent = client.get(url.clone()).send().await;
    let response = sent.map_err(|error| {
        let error = error.without_url();
        let why = causes(&error);
        // A redirect that is not allowed stays so.
        if error.is_redirect() || error.is_builder() {
            Trouble::Lasting(why)
        } else if error.is_connect() {
            Trouble::Unreachable(why)
        } else {
            Trouble::Passing(why)
        }
    })?;
    let status = response.status();
    if matches!(
        status,
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
    ) {
        return Err(Trouble::Passing(format!("HTTP status {status}")));
    }
    if !status.is_success() {
        return Err(Trouble::Lasting(format!("HTTP status {status}")));
    }
    let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let entry = text(header::HeaderName::from_static(ENTRY_HEADER)).map(str::to_owned);
    let media = text(header::CONTENT_TYPE).unwrap_or_default();
    let media = media.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let is_tar =
        entry.is_some() || matches!(media.as_str(), "application/x-tar" | "application/tar");
    store(response, to, most).await?;
    Ok(Fetched { entry, is_tar })
}

async fn store(mut response: Response, to: &Path, most: u64) -> Result<(), Trouble> {
    let too_long = || Trouble::Lasting(format!("it is longer than {most} bytes"));
    if response.content_length().is_some_and(|length| length > most) {
        return Err(too_long());
    }
    let disk = |error: io::Error| Trouble::Lasting(format!("it cannot be stored: {error}"));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(to).await.map_err(disk)?;
    let mut length = 0_u64;
    loop {
        let chunk = response.chunk().await;
        let chunk = chunk.map_err(|error| Trouble::Passing(causes(&error.without_url())))?;
        let Some(chunk) = chunk else { break };
        length = length.saturating_add(chunk.len() as u64);
        if length > most {
            return Err(too_long());
        }
        file.write_all(&chunk).await.map_err(disk)?;
    }
    file.flush().await.map_err(disk)
}

/// Moves what came into the project, opened where it is a bundle. Blocking.
fn place(fetched: Fetched, private: &Private, limits: &FetchLimits) -> Result<PathBuf, String> {
    let (download, project) = (private.download(), private.project());
    let unreadable = |error: io::Error| format!("it cannot be read again: {error}");
    match kind_of(&download).map_err(unreadable)? {
        Kind::Single if !fetched.is_tar => {
            std::fs::rename(&download, project.join(SINGLE_PLAYBOOK)).map_err(unreadable)?;
            Ok(SINGLE_PLAYBOOK.into())
        }
        Kind::Single | Kind::Tar | Kind::Gzip => {
            unpack(&download, &project, limits)?;
            std::fs::remove_file(&download).map_err(unreadable)?;
            let entry = fetched.entry.as_deref().unwrap_or(DEFAULT_ENTRY);
            entry_in(&project, entry).ok_or_else(|| format!("the bundle has no playbook {entry:?}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn only_https_or_this_host() {
        for allowed in [
            "https://example.com/a.yml",
            "http://127.0.0.1:8000/a",
            "http://127.8.9.1/a",
            "http://[::1]/a",
            "http://localhost/a",
        ] {
            assert!(check(&url(allowed), &PlainHttp::Never).is_ok(), "{allowed}");
        }
        for refused in [
            "http://example.com/a.yml",
            "http://localhost.example.com/",
            "http://10.0.0.1/",
            "file:///etc/passwd",
            "ftp://example.com/",
        ] {
            assert!(check(&url(refused), &PlainHttp::Never).is_err(), "{refused}");
        }
        assert!(check(&url("http://example.com/a.yml"), &PlainHttp::Everywhere).is_ok());
        assert!(check(&url("file:///etc/passwd"), &PlainHttp::Everywhere).is_err());
    }

    #[test]
    fn no_redirect_leads_from_https_to_plain_http() {
        let (secure, plain) = (url("https://example.com/a"), url("http://127.0.0.1/a"));
        for to in ["http://127.0.0.1/b", "http://localhost/b", "http://example.com/b"] {
            for plain_http in [PlainHttp::Never, PlainHttp::Everywhere] {
                let refused = check_redirect(Some(&secure), &url(to), &plain_http);
                assert!(refused.unwrap_err().contains("https to plain http"), "{to}");
            }
        }
        assert!(
            check_redirect(Some(&secure), &url("https://other.example/b"), &PlainHttp::Never)
                .is_ok()
        );
        assert!(
            check_redirect(Some(&plain), &url("http://127.0.0.1/b"), &PlainHttp::Never).is_ok()
        );
        assert!(
            check_redirect(Some(&plain), &url("http://example.com/b"), &PlainHttp::Never).is_err()
        );
    }

    #[test]
    fn addresses_are_shown_without_what_may_be_secret() {
        let shown = without_query(&url("https://user:pw@example.com:444/a/b.yml?signature=s#f"));
        assert_eq!(shown, "https://example.com:444/a/b.yml");
    }
}
