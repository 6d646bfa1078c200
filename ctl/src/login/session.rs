//! A login in use: its token, renewed before it ends and once after a refusal. Processes that renew
//! at the same time do so one after the other, since the SSO server may take each refresh token
//! only once.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use tokio::sync::Mutex;

use super::{
    device::Tokens,
    issuer::{Answered, Issuer, post},
};
use crate::{
    context::file::Contexts,
    trouble::{Result, Trouble},
};

/// A token that ends within so many seconds is renewed before it is used.
const EARLY: i64 = 30;
/// How long a token lasts that does not say so, in seconds.
const LIFE: i64 = 300;
/// The longest token.
const MAX_TOKEN: usize = 16 * 1024;

/// What a context keeps of a login. Its `Debug` hides the tokens.
#[derive(Clone, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Login {
    /// Who gave it.
    pub(crate) issuer: String,
    client_id: String,
    token_endpoint: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revocation_endpoint: Option<String>,
    access_token: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    /// Unix time.
    expires_at: i64,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl Login {
    pub(super) fn new(issuer: &Issuer, client_id: String, tokens: Tokens) -> Result<Self> {
        let login = Self {
            issuer: issuer.issuer.clone(),
            client_id,
            token_endpoint: issuer.token_endpoint.clone(),
            revocation_endpoint: issuer.revocation_endpoint.clone(),
            access_token: String::new(),
            refresh_token: None,
            expires_at: 0,
        };
        login.with(tokens)
    }

    fn with(self, tokens: Tokens) -> Result<Self> {
        let plain = |token: &str| {
            !token.is_empty()
                && token.len() <= MAX_TOKEN
                && token.bytes().all(|b| b.is_ascii_graphic())
        };
        if !plain(&tokens.access_token) {
            return Err(Trouble::failed("the SSO server gave something that is no token"));
        }
        let life = tokens.expires_in.unwrap_or(LIFE).max(0);
        Ok(Self {
            access_token: tokens.access_token,
            // A server that does not give a new one leaves the old one in force.
            refresh_token: tokens.refresh_token.filter(|token| plain(token)).or(self.refresh_token),
            expires_at: now().saturating_add(life),
            ..self
        })
    }

    fn is_fresh(&self) -> bool {
        self.expires_at > now().saturating_add(EARLY)
    }

    /// The successor, by the refresh token. `None`: it is not accepted any more, or there is none.
    async fn renewed(&self) -> Result<Option<Self>> {
        let Some(refresh) = &self.refresh_token else { return Ok(None) };
        let form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh.as_str()),
            ("client_id", self.client_id.as_str()),
        ];
        match post(&self.token_endpoint, &form).await? {
            Answered::Given(tokens) => self.clone().with(tokens).map(Some),
            Answered::Refused(_) => Ok(None),
        }
    }

    /// Tells the SSO server that it is over, where it takes that.
    pub(super) async fn revoke(&self) -> Result<()> {
        let (Some(endpoint), Some(token)) = (&self.revocation_endpoint, &self.refresh_token) else {
            return Ok(());
        };
        let form = [("token", token.as_str()), ("client_id", self.client_id.as_str())];
        match post::<Value>(endpoint, &form).await? {
            Answered::Given(_) => Ok(()),
            Answered::Refused(refusal) => Err(Trouble::failed(refusal.told())),
        }
    }
}

/// A login in use.
#[derive(Debug)]
pub(crate) struct Session {
    path: PathBuf,
    context: String,
    login: Mutex<Login>,
}

impl Session {
    /// That of a context in this file.
    pub(crate) fn new(path: PathBuf, context: String, login: Login) -> Self {
        Self { path, context, login: Mutex::new(login) }
    }

    /// A token that is in force.
    pub(crate) async fn token(&self) -> Result<String> {
        let mut login = self.login.lock().await;
        if !login.is_fresh() {
            let ended = login.expires_at <= now();
            match self.renew(&login).await? {
                Some(renewed) => *login = renewed,
                None if ended => return Err(self.over()),
                None => {}
            }
        }
        Ok(login.access_token.clone())
    }

    /// Another token than this one, which was refused. `None`: there is no other.
    pub(crate) async fn token_instead_of(&self, refused: &str) -> Result<Option<String>> {
        let mut login = self.login.lock().await;
        if login.access_token == refused {
            let Some(renewed) = self.renew(&login).await? else { return Ok(None) };
            *login = renewed;
        }
        Ok(Some(login.access_token.clone()))
    }

    /// Renews, unless another process has.
    async fn renew(&self, held: &Login) -> Result<Option<Login>> {
        let _lock = lock(&self.path)?;
        let contexts = Contexts::load(&self.path)?;
        let kept = contexts.contexts.get(&self.context).and_then(|context| context.login.clone());
        let Some(kept) = kept else { return Ok(None) };
        if kept.access_token != held.access_token && kept.is_fresh() {
            return Ok(Some(kept));
        }
        let renewed = kept.renewed().await?;
        if let Some(renewed) = &renewed {
            store(&self.path, &self.context, Some(renewed.clone()))?;
        }
        Ok(renewed)
    }

    fn over(&self) -> Trouble {
        let name = &self.context;
        Trouble::failed(format!("the login of `{name}` is over"))
            .hint(format!("log in again: dispatchctl login --context {name}"))
    }
}

/// Keeps a login in its context, or takes it away.
pub(super) fn save(path: &Path, context: &str, login: Option<Login>) -> Result<()> {
    let _lock = lock(path)?;
    store(path, context, login)
}

fn store(path: &Path, context: &str, login: Option<Login>) -> Result<()> {
    let mut contexts = Contexts::load(path)?;
    let Some(kept) = contexts.contexts.get_mut(context) else {
        return Err(contexts.unknown(context));
    };
    kept.login = login;
    contexts.save(path)
}

/// Held until it is dropped; others wait.
fn lock(path: &Path) -> Result<File> {
    let path = path.with_extension("lock");
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(&path);
    let locked = file.and_then(|file| file.lock().map(|()| file));
    locked.map_err(|error| Trouble::usage(format!("cannot lock `{}`: {error}", path.display())))
}

fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}
