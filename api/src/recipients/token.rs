//! Registration tokens: `drt_<secret>`, and what may be done with one. Pure.

use aws_lc_rs::{constant_time::verify_slices_are_equal, error::Unspecified};
use dispatcher_wire::registration::TOKEN_PREFIX;
use time::OffsetDateTime;
use uuid::Uuid;

use super::model::{NewToken, RegisterOutcome, Registration};

/// The characters of a secret.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// How many characters a secret has: more than 230 bits.
const LENGTH: usize = 40;
/// The most live tokens of an organisation.
pub const MAX_LIVE: i64 = 1000;
/// How long after its end a token is remembered, so that whoever comes too late hears why.
pub const REMEMBERED_FOR: time::Duration = time::Duration::DAY;

/// A fresh token.
///
/// # Errors
/// When the machine has no randomness.
pub fn generate() -> Result<String, Unspecified> {
    let mut token = TOKEN_PREFIX.to_owned();
    while token.len() < TOKEN_PREFIX.len() + LENGTH {
        let mut bytes = [0; LENGTH];
        aws_lc_rs::rand::fill(&mut bytes)?;
        let missing = TOKEN_PREFIX.len() + LENGTH - token.len();
        // Only what divides evenly is taken, so that every character is as likely.
        let even = bytes.into_iter().filter(|byte| *byte < 248).take(missing);
        token.extend(
            even.filter_map(|byte| ALPHABET.get(usize::from(byte % 62))).map(|c| char::from(*c)),
        );
    }
    Ok(token)
}

/// The token in an `Authorization` header.
#[must_use]
pub fn presented(header: &str) -> Option<&str> {
    let token = header.strip_prefix("Bearer ")?.trim();
    let secret = token.strip_prefix(TOKEN_PREFIX)?;
    let plain = secret.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (secret.len() == LENGTH && plain).then_some(token)
}

/// A token as it is stored, with who has used it.
#[derive(Clone, Debug)]
pub struct StoredToken {
    /// What it was made as.
    pub token: NewToken,
    /// The recipient that has used it, and the digest of the key it had.
    pub used: Option<(Uuid, Vec<u8>)>,
}

/// The recipient that a registration is about, where there is one of that address.
#[derive(Clone, Debug)]
pub struct Existing {
    /// Who owns it.
    pub org_id: String,
    /// What people call it.
    pub name: String,
    /// The digest of its key.
    pub key_digest: Option<Vec<u8>>,
    /// Whether it was removed.
    pub removed: bool,
}

/// What is to be done about a registration.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Nothing: this is the answer.
    Answer(RegisterOutcome),
    /// The recipient is new: write it, and that the token is used.
    Create,
    /// The recipient gets this key instead of its own: the same.
    Replace,
}

/// What is to be done where the database has this.
#[must_use]
pub fn judge(stored: &StoredToken, existing: Option<&Existing>, wanted: &Registration) -> Verdict {
    let token = &stored.token;
    if let Some((recipient, key_digest)) = &stored.used {
        let again = *recipient == wanted.recipient && is_one_of(key_digest, &wanted.key_digests);
        let in_force = existing.filter(|existing| {
            let key = existing.key_digest.as_deref().unwrap_or_default();
            !existing.removed && is_one_of(key, &wanted.key_digests)
        });
        return Verdict::Answer(match in_force {
            Some(existing) if again => RegisterOutcome::Registered {
                org_id: existing.org_id.clone(),
                name: existing.name.clone(),
            },
            _ => RegisterOutcome::Used,
        });
    }
    if token.expires_at <= wanted.at {
        return Verdict::Answer(RegisterOutcome::Expired(token.expires_at));
    }
    if let Some(only) = token.recipient.filter(|only| *only != wanted.recipient) {
        return Verdict::Answer(RegisterOutcome::OtherRecipient(only));
    }
    match existing {
        None => Verdict::Create,
        Some(existing) if token.may_replace && existing.org_id == token.org_id => Verdict::Replace,
        Some(_) => Verdict::Answer(RegisterOutcome::Taken),
    }
}

/// What the recipient is called from now on: the operator's word counts before the worker's.
#[must_use]
pub fn name_of<'a>(token: &'a NewToken, wanted: &'a Registration) -> &'a str {
    token.name.as_deref().unwrap_or(&wanted.name)
}

/// Whether a token is live at this time; what of it is judged by the database alone.
#[must_use]
pub fn forgotten_before(now: OffsetDateTime) -> OffsetDateTime {
    now - REMEMBERED_FOR
}

fn is_one_of(digest: &[u8], digests: &[Vec<u8>]) -> bool {
    digests.iter().filter(|known| verify_slices_are_equal(known, digest).is_ok()).count() > 0
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;

    fn stored(recipient: Option<Uuid>, may_replace: bool) -> StoredToken {
        let created_at = OffsetDateTime::UNIX_EPOCH;
        let token = NewToken {
            digest: vec![1],
            org_id: "own".to_owned(),
            recipient,
            may_replace,
            name: None,
            labels: [].into(),
            created_by: "someone".to_owned(),
            created_at,
            expires_at: created_at + Duration::HOUR,
        };
        StoredToken { token, used: None }
    }

    fn wanted(recipient: Uuid) -> Registration {
        Registration {
            token_digests: vec![vec![1]],
            recipient,
            name: "host".to_owned(),
            key_digests: vec![vec![7], vec![8]],
            facts: serde_json::Map::new(),
            at: OffsetDateTime::UNIX_EPOCH + Duration::MINUTE,
        }
    }

    fn existing(org_id: &str, key: u8, removed: bool) -> Existing {
        let (org_id, name) = (org_id.to_owned(), "name".to_owned());
        Existing { org_id, name, key_digest: Some(vec![key]), removed }
    }

    #[test]
    fn tokens_are_told_from_everything_else() {
        let token = generate().unwrap();
        assert_eq!(presented(&format!("Bearer {token}")), Some(token.as_str()));
        assert_ne!(token, generate().unwrap());
        for wrong in [token.clone(), "Bearer drt_short".to_owned(), format!("Bearer {token}x")] {
            assert_eq!(presented(&wrong), None);
        }
    }

    #[test]
    fn a_token_registers_once_and_the_same_request_is_answered_again() {
        let id = Uuid::from_u128(1);
        let fresh = stored(None, false);
        assert_eq!(judge(&fresh, None, &wanted(id)), Verdict::Create);
        let used = StoredToken { used: Some((id, vec![8])), ..fresh };
        let again = judge(&used, Some(&existing("own", 8, false)), &wanted(id));
        assert!(matches!(again, Verdict::Answer(RegisterOutcome::Registered { .. })));
        let refused = Verdict::Answer(RegisterOutcome::Used);
        for (existing, id, key) in [
            (existing("own", 8, false), Uuid::from_u128(2), 8),
            (existing("own", 9, false), id, 8),
            (existing("own", 8, true), id, 8),
            (existing("own", 8, false), id, 9),
        ] {
            let used = StoredToken { used: Some((Uuid::from_u128(1), vec![key])), ..used.clone() };
            assert_eq!(judge(&used, Some(&existing), &wanted(id)), refused);
        }
    }

    #[test]
    fn what_a_token_may_not_do() {
        let id = Uuid::from_u128(1);
        let late = Registration { at: OffsetDateTime::UNIX_EPOCH + Duration::HOUR, ..wanted(id) };
        let expired = RegisterOutcome::Expired(late.at);
        assert_eq!(judge(&stored(None, false), None, &late), Verdict::Answer(expired));
        let other = Uuid::from_u128(2);
        let bound = judge(&stored(Some(other), true), None, &wanted(id));
        assert_eq!(bound, Verdict::Answer(RegisterOutcome::OtherRecipient(other)));
        let taken = Verdict::Answer(RegisterOutcome::Taken);
        let own = existing("own", 1, false);
        assert_eq!(judge(&stored(Some(id), false), Some(&own), &wanted(id)), taken);
        let foreign = existing("foreign", 1, true);
        assert_eq!(judge(&stored(Some(id), true), Some(&foreign), &wanted(id)), taken);
        assert_eq!(judge(&stored(Some(id), true), Some(&own), &wanted(id)), Verdict::Replace);
    }
}
