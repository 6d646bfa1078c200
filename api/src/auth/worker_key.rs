//! Keys of workers: `dwk_<recipient>_<secret>`, presented as a bearer token. Pure.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use uuid::Uuid;

use crate::keyring::Keyring;

/// The fewest characters of a secret.
const MIN_SECRET: usize = 32;
/// The most characters of a secret.
const MAX_SECRET: usize = 128;

/// The recipient that an `Authorization` header claims to be, and the whole key.
#[must_use]
pub fn presented(header: &str) -> Option<(Uuid, &str)> {
    let key = header.strip_prefix("Bearer ")?.trim();
    let (recipient, secret) = key.strip_prefix("dwk_")?.split_once('_')?;
    let long = (MIN_SECRET..=MAX_SECRET).contains(&secret.len());
    let plain = secret.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let simple = recipient.len() == 32;
    (long && plain && simple).then(|| Some((Uuid::try_parse(recipient).ok()?, key)))?
}

/// Whether the stored digest is that of the presented key, under any shared secret.
#[must_use]
pub fn matches(keyring: &Keyring, key: &str, stored: Option<&[u8]>) -> bool {
    let digests = keyring.digests_of(key.as_bytes());
    let stored = stored.unwrap_or_default();
    digests.filter(|digest| verify_slices_are_equal(digest, stored).is_ok()).count() > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_its_recipient() {
        let id = Uuid::new_v4();
        let secret = "s".repeat(32);
        let header = format!("Bearer dwk_{}_{secret}", id.simple());
        let (recipient, key) = presented(&header).unwrap();
        assert_eq!(recipient, id);
        let keyring = Keyring::parse(&Keyring::generate().unwrap()).unwrap();
        let stored = keyring.digests(key.as_bytes()).remove(0);
        assert!(matches(&keyring, key, Some(&stored)));
        assert!(!matches(&keyring, &key.to_uppercase(), Some(&stored)));
        assert!(!matches(&keyring, key, None));
    }

    #[test]
    fn anything_else_is_no_key() {
        let (id, secret) = (Uuid::new_v4(), "s".repeat(32));
        for header in [
            String::new(),
            format!("Bearer dwk_{id}_{secret}"),
            format!("Bearer dwk_{}_short", id.simple()),
            format!("Bearer dwk_{}_{}", id.simple(), "s".repeat(129)),
            format!("Bearer dwk_{}_{}", id.simple(), "-".repeat(32)),
            format!("dwk_{}_{secret}", id.simple()),
        ] {
            assert_eq!(presented(&header), None, "{header}");
        }
    }
}
