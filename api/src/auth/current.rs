//! The auth state as requests are checked by it: digests in a table, public keys read, tokens that
//! were good a moment ago remembered. Made anew whenever the feed holds another state.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};

use auth_tracker::{
    feed::{Feed, Held, Part},
    state::ServiceKey,
};
use aws_lc_rs::digest::{SHA256, digest};
use time::OffsetDateTime;

use super::{
    caller::Caller,
    psk::{PskError, PskTable},
    recent::Recent,
    sso::{LEEWAY, MAX_TOKEN, SsoError, SsoKeys, Verified, rules::SsoRules},
};
use crate::keyring::Keyring;

/// How many tokens one generation of the memory holds.
const TOKENS: usize = 5_000;

/// A state, made ready.
struct Ready {
    generation: u64,
    psk: PskTable,
    sso: SsoKeys,
}

impl Ready {
    fn of(held: &Held, own: &[ServiceKey], rules: Option<&SsoRules>) -> Self {
        Self {
            generation: held.generation,
            psk: PskTable::new(&held.state.service_keys, own),
            sso: rules.map(|rules| SsoKeys::new(&held.state, rules)).unwrap_or_default(),
        }
    }
}

/// Who may call, as it is in force.
pub struct Current {
    feed: Arc<Feed>,
    keyring: Arc<Keyring>,
    own: Vec<ServiceKey>,
    rules: Option<SsoRules>,
    ready: RwLock<Arc<Ready>>,
    tokens: Mutex<Recent<[u8; 32], Arc<Verified>>>,
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ready = self.ready();
        f.debug_struct("Current")
            .field("generation", &ready.generation)
            .field("psk", &ready.psk)
            .field("sso", &ready.sso)
            .finish_non_exhaustive()
    }
}

impl Current {
    /// What the feed holds; `own` are the keys of this instance's settings. No rules: tokens are
    /// not accepted.
    #[must_use]
    pub fn new(
        feed: Arc<Feed>,
        keyring: Arc<Keyring>,
        own: Vec<ServiceKey>,
        rules: Option<SsoRules>,
    ) -> Self {
        let ready = Ready::of(&feed.current(), &own, rules.as_ref());
        Self {
            feed,
            keyring,
            own,
            rules,
            ready: RwLock::new(Arc::new(ready)),
            tokens: Mutex::new(Recent::new(TOKENS)),
        }
    }

    /// Where the state comes from.
    #[must_use]
    pub const fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// Whether tokens of an SSO server are accepted at all.
    #[must_use]
    pub const fn takes_tokens(&self) -> bool {
        self.rules.is_some()
    }

    /// The service that presents this `Authorization` header.
    ///
    /// # Errors
    /// When it is missing, malformed, nobody's key, or nobody can tell.
    pub fn service(&self, header: Option<&str>, now: OffsetDateTime) -> Result<Caller, PskError> {
        let is_stale = self.feed.is_stale(Part::Keys);
        self.ready().psk.authenticate(header, &self.keyring, now, is_stale)
    }

    /// The caller that presents this token of the SSO server. May wait for the key that it was
    /// signed with, where nobody has asked for new keys a moment ago.
    ///
    /// # Errors
    /// When the token does not count, and why.
    pub async fn user(&self, token: &str, now: OffsetDateTime) -> Result<Caller, SsoError> {
        if token.len() > MAX_TOKEN {
            return Err(SsoError::TooLong(token.len()));
        }
        let Some(rules) = self.rules.as_ref().filter(|_| !self.feed.is_stale(Part::Sso)) else {
            return Err(SsoError::Stale);
        };
        let ready = self.ready();
        let print = print_of(token);
        if let Some(caller) = self.remembered(&print, &ready, now) {
            return Ok(caller);
        }
        let mut verified = ready.sso.verify(token, rules);
        if let Err(SsoError::UnknownKey(kid)) = &verified {
            self.feed.request_refetch(Some(kid)).await;
            verified = self.ready().sso.verify(token, rules);
        }
        let verified = verified?;
        let caller = verified.caller.clone();
        self.tokens().put(print, Arc::new(verified));
        Ok(caller)
    }

    /// A token that was good a moment ago, and whose time and key are still good.
    fn remembered(&self, print: &[u8; 32], ready: &Ready, now: OffsetDateTime) -> Option<Caller> {
        let verified = Arc::clone(self.tokens().get(print)?);
        let leeway = Duration::from_secs(LEEWAY);
        let in_time = verified.caller.expires_at.is_some_and(|at| now < at + leeway);
        (in_time && ready.sso.has(&verified.key)).then(|| verified.caller.clone())
    }

    fn ready(&self) -> Arc<Ready> {
        let held = self.feed.current();
        let ready = Arc::clone(&self.ready.read().unwrap_or_else(PoisonError::into_inner));
        if ready.generation == held.generation {
            return ready;
        }
        let newer = Arc::new(Ready::of(&held, &self.own, self.rules.as_ref()));
        let mut current = self.ready.write().unwrap_or_else(PoisonError::into_inner);
        if current.generation < newer.generation {
            *current = Arc::clone(&newer);
        }
        newer
    }

    fn tokens(&self) -> MutexGuard<'_, Recent<[u8; 32], Arc<Verified>>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a token is remembered by: never itself.
fn print_of(token: &str) -> [u8; 32] {
    let mut print = [0; 32];
    print.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    print
}
