//! Tokens of the SSO server (decision 11): whether one is genuine, for us and in time, and who it
//! speaks of. Fetches nothing.
//!
//! A key is used with the one algorithm it was published for; what a token says of its algorithm
//! only has to agree. Keys that a token brings along are refused.

pub mod claims;
pub mod rules;

use auth_tracker::state::{AuthState, SsoKey};
use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, errors::ErrorKind};
use serde::{Deserialize, de::IgnoredAny};

use super::caller::Caller;
use claims::Claims;
use rules::SsoRules;

/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN: usize = 16 * 1024;
/// The longest key id, in bytes.
const MAX_KID: usize = 256;
/// How far clocks may be apart, in seconds.
pub const LEEWAY: u64 = 30;

/// Why a token does not count.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SsoError {
    /// It is too long to be one.
    #[error("the token has {0} bytes; at most {MAX_TOKEN} are taken")]
    TooLong(usize),
    /// It is none.
    #[error("this is not a JSON web token: {0}")]
    Malformed(String),
    /// It names a key of its own, or demands what nobody here understands.
    #[error("the token's header has {0:?}, which is not accepted")]
    Header(&'static str),
    /// No key has that id.
    #[error(
        "the token was signed with the key {0:?}, which the SSO server does not have (any more)"
    )]
    UnknownKey(String),
    /// Its key is used with another algorithm.
    #[error("the token claims the algorithm {0:?}, which is not that of its key")]
    Algorithm(String),
    /// Somebody else made or changed it.
    #[error("the token's signature is wrong")]
    Signature,
    /// It was good once.
    #[error("the token has expired; get a new one")]
    Expired,
    /// It will be good.
    #[error("the token is not valid yet (nbf): a clock is wrong")]
    NotYet,
    /// It is for somebody else.
    #[error("the token is not for this service: its audience must contain {0}")]
    Audience(String),
    /// Somebody else issued it.
    #[error("the token was not issued by {0}")]
    Issuer(String),
    /// Something that must be there is not, or is not usable.
    #[error("the token's claim {0} is missing or not usable")]
    Claim(String),
    /// It belongs to nobody's organisation.
    #[error(
        "the token names no organisation: the claim {0} is missing; have the SSO server put it \
         into tokens, or name another one (SSO_ORG_CLAIM)"
    )]
    NoOrganization(String),
    /// It has no role that means anything here.
    #[error("none of the token's roles counts here; one of these is needed: {0}")]
    NoRole(String),
    /// Nobody can tell: what is known of keys is too old.
    #[error("the keys of the SSO server have not been heard of for too long")]
    Stale,
}

/// A key in its state: everything about it that could make another token valid.
pub type KeyPrint = [u8; 32];

/// A caller, and the key that vouches for it.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Who.
    pub caller: Caller,
    /// Signed with this.
    pub key: KeyPrint,
}

struct Key {
    kid: Option<String>,
    name: &'static str,
    print: KeyPrint,
    decoding: DecodingKey,
    validation: Validation,
}

/// The keys of the SSO server at one moment.
#[derive(Default)]
pub struct SsoKeys {
    keys: Vec<Key>,
    issuers: Vec<String>,
}

impl std::fmt::Debug for SsoKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.kid)).finish()
    }
}

/// What is looked at of a token's header. Members that are there twice make it unreadable.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    jku: Option<IgnoredAny>,
    jwk: Option<IgnoredAny>,
    x5u: Option<IgnoredAny>,
    crit: Option<IgnoredAny>,
}

impl Header {
    fn of(token: &str) -> Result<Self, SsoError> {
        let malformed = |why: &str| SsoError::Malformed(why.to_owned());
        let parts: Vec<&str> = token.split('.').take(4).collect();
        let [head, _, _] = parts.as_slice() else {
            return Err(malformed("it does not have three parts"));
        };
        let head = BASE64_URL_SAFE_NO_PAD.decode(head);
        let head = head.map_err(|_| malformed("its header is not base64url"))?;
        let head: Self = serde_json::from_slice(&head)
            .map_err(|error| SsoError::Malformed(format!("its header: {error}")))?;
        let foreign = [
            ("jku", head.jku.is_some()),
            ("jwk", head.jwk.is_some()),
            ("x5u", head.x5u.is_some()),
            ("crit", head.crit.is_some()),
        ];
        if let Some((name, _)) = foreign.into_iter().find(|(_, is_there)| *is_there) {
            return Err(SsoError::Header(name));
        }
        if head.kid.as_ref().is_some_and(|kid| kid.len() > MAX_KID) || head.alg.len() > MAX_KID {
            return Err(malformed("its header names a key or an algorithm of unlikely length"));
        }
        Ok(head)
    }
}

impl SsoKeys {
    /// The keys of a state. One that is unusable is left out, loudly.
    #[must_use]
    pub fn new(state: &AuthState, rules: &SsoRules) -> Self {
        let issuers = &state.sso_issuers;
        let keys = state.sso_keys.iter().filter_map(|key| {
            let usable = usable(key, issuers, rules);
            if usable.is_none() {
                tracing::error!(
                    key.kid,
                    ?key.algorithm,
                    "a key of the SSO server is not of its algorithm; it is not used"
                );
            }
            usable
        });
        Self { keys: keys.collect(), issuers: issuers.clone() }
    }

    /// Whether this key still counts.
    #[must_use]
    pub fn has(&self, print: &KeyPrint) -> bool {
        self.keys.iter().any(|key| key.print == *print)
    }

    /// The caller that presents this token.
    ///
    /// # Errors
    /// When the token does not count, and why.
    pub fn verify(&self, token: &str, rules: &SsoRules) -> Result<Verified, SsoError> {
        if token.len() > MAX_TOKEN {
            return Err(SsoError::TooLong(token.len()));
        }
        let header = Header::of(token)?;
        let named = self.keys.iter().filter(|key| key.kid.is_some() && key.kid == header.kid);
        let configured = self.keys.iter().filter(|key| key.kid.is_none());
        let unknown = || match &header.kid {
            Some(kid) => SsoError::UnknownKey(kid.clone()),
            None => SsoError::Malformed("its header names no key (kid)".to_owned()),
        };
        let mut outcome = Err(unknown());
        for key in named.chain(configured) {
            outcome = self.verify_with(key, &header, token, rules);
            match &outcome {
                // A configured key stands for every id; another's token is only not its own.
                Err(SsoError::Signature | SsoError::Algorithm(_)) if key.kid.is_none() => {
                    outcome = Err(unknown());
                }
                _ => break,
            }
        }
        outcome
    }

    fn verify_with(
        &self,
        key: &Key,
        header: &Header,
        token: &str,
        rules: &SsoRules,
    ) -> Result<Verified, SsoError> {
        if header.alg != key.name {
            return Err(SsoError::Algorithm(header.alg.clone()));
        }
        let read = decode::<Claims>(token, &key.decoding, &key.validation);
        let claims = read.map_err(|error| self.explained(error.kind(), rules))?.claims;
        // The library takes lists of issuers as well, which nobody issues.
        let is_theirs = |own: &String| claims.text("iss") == Some(own);
        if !self.issuers.is_empty() && !self.issuers.iter().any(is_theirs) {
            return Err(SsoError::Issuer(self.issuers.join(" or ")));
        }
        let caller = rules.caller(&claims, header.kid.as_deref())?;
        Ok(Verified { caller, key: key.print })
    }

    fn explained(&self, kind: &ErrorKind, rules: &SsoRules) -> SsoError {
        match kind {
            ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => SsoError::Signature,
            ErrorKind::ExpiredSignature => SsoError::Expired,
            ErrorKind::ImmatureSignature => SsoError::NotYet,
            ErrorKind::InvalidAudience => SsoError::Audience(rules.audiences.join(" or ")),
            ErrorKind::InvalidIssuer => SsoError::Issuer(self.issuers.join(" or ")),
            ErrorKind::MissingRequiredClaim(name) | ErrorKind::InvalidClaimFormat(name) => {
                SsoError::Claim(name.clone())
            }
            other => SsoError::Malformed(format!("{other:?}")),
        }
    }
}

fn usable(key: &SsoKey, issuers: &[String], rules: &SsoRules) -> Option<Key> {
    let name = name_of(key.algorithm)?;
    let decoding = key.decoding_key().ok()?;
    if decoding.family() != key.algorithm.family() {
        return None;
    }
    let mut validation = Validation::new(key.algorithm);
    validation.leeway = LEEWAY;
    validation.validate_nbf = true;
    validation.set_audience(&rules.audiences);
    validation.set_required_spec_claims(&["exp", "aud"]);
    if !issuers.is_empty() {
        validation.set_issuer(issuers);
        validation.set_required_spec_claims(&["exp", "aud", "iss"]);
    }
    let whole = serde_json::to_vec(&(key, issuers)).ok()?;
    let mut print = [0; 32];
    print.copy_from_slice(digest(&SHA256, &whole).as_ref());
    Some(Key { kid: key.kid.clone(), name, print, decoding, validation })
}

/// The name of an algorithm that has a public key.
const fn name_of(algorithm: Algorithm) -> Option<&'static str> {
    Some(match algorithm {
        Algorithm::RS256 => "RS256",
        Algorithm::RS384 => "RS384",
        Algorithm::RS512 => "RS512",
        Algorithm::PS256 => "PS256",
        Algorithm::PS384 => "PS384",
        Algorithm::PS512 => "PS512",
        Algorithm::ES256 => "ES256",
        Algorithm::ES384 => "ES384",
        Algorithm::EdDSA => "EdDSA",
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
