//! How a recipient comes to be: an operator makes a one-time token, a worker registers with it.

use dispatcher_wire::registration::{
    MAX_NAME_LENGTH, MAX_TOKEN_SECONDS, RegisterReply, RegisterRequest, TokenReply, TokenRequest,
};
use serde_json::json;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{
    facts::{self, FactsError},
    labels::{self, LabelError},
    model::{NewToken, RegisterOutcome, Registration, TokenOutcome},
    token,
};
use crate::{
    audit::model::{Action, Actor},
    auth::{
        principal::{Principal, Role},
        worker_key,
    },
    events::model::timestamp,
    keyring::Keyring,
    store::{StoreError, registrations::RegistrationStore},
};

/// Why a token was not made, or a worker not registered. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RegistrationError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The machine has no randomness.
    #[error("no token can be made: the machine has no randomness")]
    NoRandomness,
    /// A name that cannot be one.
    #[error(
        "the name is not acceptable; allowed: 1 to {MAX_NAME_LENGTH} characters, no control characters"
    )]
    Name,
    /// Labels that cannot be some.
    #[error(transparent)]
    Labels(#[from] LabelError),
    /// Facts that cannot be some.
    #[error(transparent)]
    Facts(#[from] FactsError),
    /// A time that cannot be one.
    #[error("expires_in {0} is not acceptable; allowed: 1 to {MAX_TOKEN_SECONDS} seconds")]
    ExpiresIn(u32),
    /// An address that cannot be one.
    #[error(
        "recipient {0} is not acceptable; allowed: a UUID of version 4, as a dispatch requires"
    )]
    Recipient(Uuid),
    /// A key that cannot be one.
    #[error(
        "the key is not acceptable; allowed: dwk_<recipient without hyphens>_<32 to 128 letters and \
         digits>"
    )]
    Key,
    /// The organisation has too many tokens.
    #[error(
        "the organisation has {} registration tokens that are neither used nor expired; use them, or \
         wait until they expire",
        token::MAX_LIVE
    )]
    TooManyTokens,
    /// Registering again is for admins.
    #[error(
        "recipient {0} is registered already; a token to register it again is made by an admin, for \
         this recipient"
    )]
    AdminNeeded(Uuid),
    /// The address is not free.
    #[error("recipient {0} is not free; choose another UUID")]
    NotFree(Uuid),
    /// There is no such token.
    #[error("this registration token is not known; ask an operator for a new one")]
    UnknownToken,
    /// The token is too old.
    #[error("this registration token has expired at {0}; ask an operator for a new one")]
    ExpiredToken(String),
    /// The token is used.
    #[error(
        "this registration token is used; a token registers one worker once: ask an operator for a \
         new one"
    )]
    UsedToken,
    /// The token is for another recipient.
    #[error("this registration token is for recipient {0} only; ask an operator for another one")]
    OtherRecipient(Uuid),
    /// The recipient is registered already.
    #[error(
        "recipient {0} is registered already; ask an admin for a token for this recipient to \
         register it again"
    )]
    Taken(Uuid),
}

/// Makes a one-time token.
///
/// # Errors
/// When something asked for is not acceptable or not the caller's to ask, or the database fails.
pub async fn make_token(
    store: &dyn RegistrationStore,
    keyring: &Keyring,
    (caller, org_id): (&Principal, &str),
    by: &Actor,
    request: TokenRequest,
    now: OffsetDateTime,
) -> Result<TokenReply, RegistrationError> {
    let TokenRequest { name, labels, recipient, expires_in } = request;
    let expires_in = expires_in.unwrap_or(MAX_TOKEN_SECONDS);
    if !(1..=MAX_TOKEN_SECONDS).contains(&expires_in) {
        return Err(RegistrationError::ExpiresIn(expires_in));
    }
    if name.as_deref().is_some_and(|name| !is_name(name)) {
        return Err(RegistrationError::Name);
    }
    recipient.map(check_recipient).transpose()?;
    labels::check(&labels)?;
    let token = token::generate().map_err(|_| RegistrationError::NoRandomness)?;
    let expires_at = now + Duration::seconds(i64::from(expires_in));
    let new = NewToken {
        digest: digests(keyring, &token).into_iter().next().unwrap_or_default(),
        org_id: org_id.to_owned(),
        recipient,
        may_replace: recipient.is_some() && caller.role >= Role::Admin,
        name,
        labels,
        created_by: caller.id.clone(),
        created_at: now,
        expires_at,
    };
    let target = recipient.map_or_else(|| "any".to_owned(), |id| id.to_string());
    let detail =
        json!({ "name": new.name, "labels": new.labels, "expires_at": timestamp(expires_at) });
    let audit = by.did(Action::RecipientToken, target, Some(org_id), now).with(detail);
    match (store.make_token(&new, Some(&audit)).await?, recipient) {
        (TokenOutcome::Registered, Some(id)) => Err(RegistrationError::AdminNeeded(id)),
        (TokenOutcome::OtherOrg, Some(id)) => Err(RegistrationError::NotFree(id)),
        (TokenOutcome::Made, _) => {
            let (org_id, expires_at) = (new.org_id, timestamp(expires_at));
            Ok(TokenReply { token, org_id, recipient, expires_at })
        }
        (TokenOutcome::TooMany | TokenOutcome::Registered | TokenOutcome::OtherOrg, _) => {
            Err(RegistrationError::TooManyTokens)
        }
    }
}

/// Registers a worker that presents a token.
///
/// # Errors
/// When the token does not allow it, something is not acceptable, or the database fails.
pub async fn register(
    store: &dyn RegistrationStore,
    keyring: &Keyring,
    token: &str,
    request: RegisterRequest,
    request_id: String,
    now: OffsetDateTime,
) -> Result<RegisterReply, RegistrationError> {
    let RegisterRequest { recipient, name, key, facts } = request;
    check_recipient(recipient)?;
    if !is_name(&name) {
        return Err(RegistrationError::Name);
    }
    facts::check(&facts)?;
    let header = format!("Bearer {key}");
    if worker_key::presented(&header).is_none_or(|(claimed, _)| claimed != recipient) {
        return Err(RegistrationError::Key);
    }
    let wanted = Registration {
        token_digests: digests(keyring, token),
        recipient,
        name,
        key_digests: digests(keyring, &key),
        facts,
        at: now,
    };
    let by = Actor::worker(recipient, request_id);
    let audit = by.did(Action::RecipientRegister, recipient.to_string(), None, now);
    match store.register_worker(&wanted, Some(&audit)).await? {
        RegisterOutcome::Registered { org_id, name } => {
            Ok(RegisterReply { recipient, org_id, name })
        }
        RegisterOutcome::UnknownToken => Err(RegistrationError::UnknownToken),
        RegisterOutcome::Expired(at) => Err(RegistrationError::ExpiredToken(timestamp(at))),
        RegisterOutcome::Used => Err(RegistrationError::UsedToken),
        RegisterOutcome::OtherRecipient(only) => Err(RegistrationError::OtherRecipient(only)),
        RegisterOutcome::Taken => Err(RegistrationError::Taken(recipient)),
    }
}

fn check_recipient(recipient: Uuid) -> Result<(), RegistrationError> {
    if recipient.get_version_num() == 4 {
        Ok(())
    } else {
        Err(RegistrationError::Recipient(recipient))
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().count() <= MAX_NAME_LENGTH && !name.contains(char::is_control)
}

fn digests(keyring: &Keyring, secret: &str) -> Vec<Vec<u8>> {
    keyring.digests(secret.as_bytes())
}
