//! What settings say about the sources of the auth state (decision 12), as the tracker's library
//! takes it. Used by instances and by the tracker alike.

use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use auth_tracker::{
    clock::Clock,
    feed,
    ports::Seal,
    reconcile::Fetched,
    redis::AuthRedis,
    sources::sso::{self, Discovery, Fetcher, Server},
};
use secrecy::ExposeSecret as _;

use crate::{
    config::{
        auth::{AuthSettings, SsoSettings},
        tls::TlsSettings,
    },
    keyring::{Keyring, Purpose},
    tls,
};

impl Seal for Keyring {
    fn tag(&self, message: &[u8]) -> String {
        self.sign(Purpose::Snapshot, message)
    }

    fn check(&self, message: &[u8], tag: &str) -> bool {
        self.verify(Purpose::Snapshot, message, tag)
    }
}

/// The SSO server's side; empty where there is none.
#[derive(Debug, Default)]
pub struct Sources {
    /// Fetches its keys.
    pub fetcher: Option<Arc<Fetcher>>,
    /// The key that is in use as long as none was fetched.
    pub configured: Option<Fetched>,
    /// Every issuer it may turn out to have.
    pub issuers: Vec<String>,
}

impl Sources {
    /// Those that settings name.
    ///
    /// # Errors
    /// When its key or the certificates that settings name cannot be used.
    pub fn of(sso: Option<&SsoSettings>, tls: &TlsSettings, clock: &Clock) -> anyhow::Result<Self> {
        let Some(settings) = sso.map(|sso| &sso.server) else { return Ok(Self::default()) };
        let server = Server { realm: settings.realm.clone(), issuer: settings.issuer.clone() };
        let mut issuers = server.places();
        issuers.extend(server.issuers());
        let configured = match &settings.public_key {
            Some(pem) => {
                let key = sso::configured(pem).map_err(|why| anyhow!("SSO_PUBLIC_KEY: {why}"))?;
                Some(feed::configured(key, server.issuers()))
            }
            None => None,
        };
        let builder =
            reqwest::Client::builder().tls_backend_preconfigured(tls::client_config(tls)?);
        let client = sso::client(builder).context("no HTTP client can be made")?;
        let discovery = Discovery::new(client, server);
        let fetcher = Fetcher::new(discovery, settings.refresh, clock.clone());
        Ok(Self { fetcher: Some(Arc::new(fetcher)), configured, issuers })
    }
}

/// The Redis that settings name. Nothing is asked of it yet.
///
/// # Errors
/// When its address or the certificates that settings name cannot be used.
pub fn redis(auth: &AuthSettings, tls: &TlsSettings) -> anyhow::Result<Option<AuthRedis>> {
    let Some(url) = &auth.redis else { return Ok(None) };
    let authorities = tls::bundle(tls)?;
    Ok(Some(AuthRedis::at(url.expose_secret(), authorities)?))
}
