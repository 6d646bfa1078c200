//! Requests that may be repeated (decision 3): what `Idempotency-Key` may hold, and how long an
//! answer is kept under it.

use aws_lc_rs::digest::{SHA256, digest};
use time::{Duration, OffsetDateTime};

use super::model::{IdempotencyKey, StoredAnswer};
use crate::auth::principal::{OrgScope, Principal};

/// How long a key is kept, finished or not. Where the process was killed while it sent to foreign
/// hosts, the runs are kept and listed, but what became of each message is not known: the key is
/// refused for as long as any other, since a caller that repeats itself would otherwise send twice
/// some day. A caller who has looked at the runs may take a new key at any time.
const KEPT_FOR: Duration = Duration::hours(24);
/// The longest key, in characters.
const MAX_KEY: usize = 255;

/// A dispatch that may be repeated, as its caller sent it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Repeatable {
    key: String,
    body_hash: [u8; 32],
}

impl Repeatable {
    /// Takes the values of the header and the raw body. `None`: there is no header.
    ///
    /// # Errors
    /// What is wrong with the header.
    pub fn new(values: &[&[u8]], body: &[u8]) -> Result<Option<Self>, String> {
        let value = match values {
            [] => return Ok(None),
            [value] => *value,
            _ => return Err(format!("Idempotency-Key is given {} times", values.len())),
        };
        let visible = value.iter().all(u8::is_ascii_graphic);
        if !visible || value.is_empty() || value.len() > MAX_KEY {
            return Err(format!(
                "Idempotency-Key has {} bytes; allowed are 1 to {MAX_KEY} visible ASCII characters",
                value.len()
            ));
        }
        let mut body_hash = [0; 32];
        body_hash.copy_from_slice(digest(&SHA256, body).as_ref());
        Ok(Some(Self { key: String::from_utf8_lossy(value).into_owned(), body_hash }))
    }

    /// The key as it is stored with an answer that is known before the commit.
    #[must_use]
    pub fn answered(
        &self,
        principal: &Principal,
        now: OffsetDateTime,
        answer: StoredAnswer,
    ) -> IdempotencyKey {
        self.stored(principal, now + KEPT_FOR, Some(answer))
    }

    /// The key as it is stored while its messages are being sent.
    #[must_use]
    pub fn in_flight(&self, principal: &Principal, now: OffsetDateTime) -> IdempotencyKey {
        self.stored(principal, now + KEPT_FOR, None)
    }

    fn stored(
        &self,
        principal: &Principal,
        expires_at: OffsetDateTime,
        answer: Option<StoredAnswer>,
    ) -> IdempotencyKey {
        IdempotencyKey {
            principal: format!("{}:{}", principal.kind.as_str(), principal.id),
            org_id: match &principal.org {
                OrgScope::All => "*".to_owned(),
                OrgScope::One(org_id) => org_id.clone(),
            },
            key: self.key.clone(),
            body_hash: self.body_hash,
            expires_at,
            answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_short_visible_and_single() {
        let refused = |values: &[&[u8]]| Repeatable::new(values, b"").unwrap_err();
        assert_eq!(Repeatable::new(&[], b""), Ok(None));
        assert!(Repeatable::new(&[&[b'~'; 255]], b"").unwrap().is_some());
        assert!(refused(&[b""]).contains("has 0 bytes"));
        assert!(refused(&[&[b'x'; 256]]).contains("has 256 bytes"));
        for invisible in [&b"a b"[..], b"\x7f", b"\xc3\xa4", b"a\0"] {
            assert!(refused(&[invisible]).contains("visible ASCII"));
        }
        assert!(refused(&[b"a", b"a"]).contains("2 times"));
    }

    #[test]
    fn the_raw_body_is_what_counts() {
        let of = |body: &[u8]| Repeatable::new(&[b"k"], body).unwrap().unwrap();
        assert_eq!(of(b"[1]"), of(b"[1]"));
        assert_ne!(of(b"[1]"), of(b"[1] "));
    }
}
