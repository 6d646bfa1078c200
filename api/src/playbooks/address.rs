//! Addresses of stored content: what a run's `url` holds (unsigned), and what a worker is handed
//! (signed, expiring). Pure.
//!
//! A signature is given only to an address of this service that belongs to the run's own
//! organisation: otherwise a caller could dispatch an address of somebody else and be handed the
//! right to read it.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use time::OffsetDateTime;

use crate::keyring::{Keyring, Purpose, hex, unhex};

/// Below this path stored content is served.
pub const CONTENT_PATH: &str = "/api/playbook-dispatcher/v1/playbook-content/";

/// What may stand unencoded in a path segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Content of an organisation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Content {
    /// Whose it is.
    pub org_id: String,
    /// SHA-256 of it.
    pub sha256: [u8; 32],
}

impl Content {
    /// Its unsigned address.
    #[must_use]
    pub fn address(&self, public_url: &str) -> String {
        let base = public_url.trim_end_matches('/');
        let org = utf8_percent_encode(&self.org_id, SEGMENT);
        format!("{base}{CONTENT_PATH}{org}/{}", hex(&self.sha256))
    }

    /// The content an unsigned address of this service stands for; `None` for any other address.
    #[must_use]
    pub fn of(public_url: &str, url: &str) -> Option<Self> {
        let base = public_url.trim_end_matches('/');
        let (org, sha256) = url.strip_prefix(base)?.strip_prefix(CONTENT_PATH)?.split_once('/')?;
        let org_id = percent_decode_str(org).decode_utf8().ok()?.into_owned();
        let content = Self { org_id, sha256: sha256_of(sha256)? };
        // Only the one spelling that we hand out, so that nothing else compares unequal to itself.
        (content.address(public_url) == url).then_some(content)
    }

    /// Whether a signature allows to read this content now. In constant time.
    #[must_use]
    pub fn verify(
        &self,
        keyring: &Keyring,
        expires: i64,
        signature: &str,
        now: OffsetDateTime,
    ) -> bool {
        let genuine = keyring.verify(Purpose::Playbook, &self.message(expires), signature);
        genuine && now.unix_timestamp() < expires
    }

    fn message(&self, expires: i64) -> Vec<u8> {
        // The organisation comes last: it is the only part of free form.
        format!("{expires} {} {}", hex(&self.sha256), self.org_id).into_bytes()
    }
}

/// The SHA-256 that a path segment names: 64 lower-case hexadecimal digits.
#[must_use]
pub fn sha256_of(text: &str) -> Option<[u8; 32]> {
    let sha256 = <[u8; 32]>::try_from(unhex(text)?).ok()?;
    (hex(&sha256) == text).then_some(sha256)
}

/// Whether an address is that of stored content of this service.
#[must_use]
pub fn is_ours(public_url: &str, url: &str) -> bool {
    Content::of(public_url, url).is_some()
}

/// The address a worker fetches a playbook from: signed where it is that of stored content of this
/// very organisation, unchanged otherwise.
#[must_use]
pub fn sign(
    keyring: &Keyring,
    public_url: &str,
    org_id: &str,
    url: &str,
    expires: OffsetDateTime,
) -> String {
    let content = Content::of(public_url, url).filter(|content| content.org_id == org_id);
    content.map_or_else(
        || url.to_owned(),
        |content| {
            let expires = expires.unix_timestamp();
            let signature = keyring.sign(Purpose::Playbook, &content.message(expires));
            format!("{url}?expires={expires}&signature={signature}")
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const PUBLIC: &str = "https://dispatcher.example.com";

    fn content(org_id: &str) -> Content {
        Content { org_id: org_id.to_owned(), sha256: [0xAB; 32] }
    }

    fn keyring() -> Keyring {
        Keyring::parse(&Keyring::generate().unwrap()).unwrap()
    }

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(seconds).unwrap()
    }

    #[test]
    fn addresses_name_any_organisation_and_come_back() {
        for org in ["5318290", "a/b", "..", "ä ?#&", "%2F"] {
            let address = content(org).address(&format!("{PUBLIC}/"));
            assert!(address.starts_with("https://dispatcher.example.com/api/"), "{address}");
            assert_eq!(Content::of(PUBLIC, &address), Some(content(org)), "{address}");
        }
    }

    #[test]
    fn only_our_own_spelling_is_ours() {
        let own = content("org").address(PUBLIC);
        assert!(is_ours(PUBLIC, &own));
        for other in [
            own.replace("https", "http"),
            own.replace(".com", ".com.evil.example"),
            own.to_uppercase(),
            own.replace("abab", "ABAB"),
            own.replace("/org/", "/%6frg/"),
            format!("{own}?x"),
            format!("{own}/"),
            format!("{own}00"),
            own[..own.len() - 2].to_owned(),
            "https://example.com/site.yml".to_owned(),
        ] {
            assert!(!is_ours(PUBLIC, &other), "{other}");
        }
    }

    #[test]
    fn a_signature_covers_organisation_content_and_expiry() {
        let keyring = keyring();
        let url = content("org").address(PUBLIC);
        let signed = sign(&keyring, PUBLIC, "org", &url, at(1000));
        let tag = signed.strip_prefix(&format!("{url}?expires=1000&signature=")).unwrap();
        assert!(content("org").verify(&keyring, 1000, tag, at(999)));
        assert!(!content("org").verify(&keyring, 1000, tag, at(1000)), "expired");
        assert!(!content("org").verify(&keyring, 1001, tag, at(999)));
        assert!(!content("other").verify(&keyring, 1000, tag, at(999)));
        let other = Content { sha256: [1; 32], ..content("org") };
        assert!(!other.verify(&keyring, 1000, tag, at(999)));
        assert!(!content("org").verify(&self::keyring(), 1000, tag, at(999)));
        assert!(!content("org").verify(&keyring, 1000, "", at(999)));
    }

    #[test]
    fn only_the_runs_own_organisation_gets_a_signature() {
        let keyring = keyring();
        let url = content("other").address(PUBLIC);
        assert_eq!(sign(&keyring, PUBLIC, "org", &url, at(1000)), url);
        let foreign = content("org").address("https://evil.example");
        assert_eq!(sign(&keyring, PUBLIC, "org", &foreign, at(1000)), foreign);
    }
}
