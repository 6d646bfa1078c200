//! The shared secrets of all instances (decision 13): one key per purpose, derived from
//! `DISPATCHER_SECRET_KEYS` once, at the start. The first secret makes, every secret checks.
//!
//! Nothing here is shown by `Debug`, and comparison is in constant time.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey},
    error::Unspecified,
    hkdf::{HKDF_SHA256, KeyType, Salt},
    hmac,
};
use base64::{Engine, prelude::BASE64_STANDARD};

/// What a derived key tags. Keys of different purposes have nothing in common.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// Upload tokens.
    Upload,
    /// Addresses of stored playbooks.
    Playbook,
    /// The auth state that instances share.
    Snapshot,
    /// Digests of keys of services and workers.
    Psk,
}

/// What the key that seals secrets in the database is derived with.
const AT_REST: &[u8] = b"dispatcher at-rest";

impl Purpose {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Upload => b"dispatcher upload",
            Self::Playbook => b"dispatcher playbook",
            Self::Snapshot => b"dispatcher snapshot",
            Self::Psk => b"dispatcher psk",
        }
    }
}

/// Why secret keys cannot be used. Never contains key material.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The setting is not a list of `<kid>:<base64>`.
    #[error("entry {0} of DISPATCHER_SECRET_KEYS is not <key id>:<base64 of 32 bytes or more>")]
    Malformed(usize),
    /// There is no key.
    #[error("DISPATCHER_SECRET_KEYS is empty: give <key id>:<base64 of 32 random bytes>")]
    Empty,
    /// Two keys have the same id.
    #[error("key id {0} stands twice in DISPATCHER_SECRET_KEYS")]
    Repeated(String),
    /// The cryptographic library refuses to derive from it.
    #[error("no keys could be derived from entry {0} of DISPATCHER_SECRET_KEYS")]
    Underivable(usize),
}

/// What is derived from one secret.
struct Secret {
    kid: String,
    upload: hmac::Key,
    playbook: hmac::Key,
    snapshot: hmac::Key,
    psk: hmac::Key,
    at_rest: RandomizedNonceKey,
}

impl Secret {
    fn derived(kid: &str, secret: &[u8]) -> Result<Self, Unspecified> {
        let mac = |purpose: Purpose| {
            derive(secret, purpose.label()).map(|key| hmac::Key::new(hmac::HMAC_SHA256, &key))
        };
        Ok(Self {
            kid: kid.to_owned(),
            upload: mac(Purpose::Upload)?,
            playbook: mac(Purpose::Playbook)?,
            snapshot: mac(Purpose::Snapshot)?,
            psk: mac(Purpose::Psk)?,
            at_rest: RandomizedNonceKey::new(&AES_256_GCM, &derive(secret, AT_REST)?)?,
        })
    }

    /// The key that tags messages of a purpose.
    const fn mac(&self, purpose: Purpose) -> &hmac::Key {
        match purpose {
            Purpose::Upload => &self.upload,
            Purpose::Playbook => &self.playbook,
            Purpose::Snapshot => &self.snapshot,
            Purpose::Psk => &self.psk,
        }
    }
}

/// All secrets, the making one first.
pub struct Keyring {
    keys: Vec<Secret>,
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|secret| &secret.kid)).finish()
    }
}

struct Length(usize);
impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl Keyring {
    /// Parses `<kid>:<base64>,…`.
    ///
    /// # Errors
    /// When an entry is malformed, shorter than 32 bytes, or its id is repeated.
    pub fn parse(setting: &str) -> Result<Self, KeyringError> {
        let mut keys: Vec<Secret> = Vec::new();
        for (index, entry) in setting.split(',').filter(|entry| !entry.is_empty()).enumerate() {
            let malformed = || KeyringError::Malformed(index + 1);
            let (kid, secret) = entry.trim().split_once(':').ok_or_else(malformed)?;
            let secret = BASE64_STANDARD.decode(secret).map_err(|_| malformed())?;
            let valid = !kid.is_empty() && kid.bytes().all(|byte| byte.is_ascii_alphanumeric());
            if !valid || secret.len() < 32 {
                return Err(malformed());
            }
            if keys.iter().any(|known| known.kid == kid) {
                return Err(KeyringError::Repeated(kid.to_owned()));
            }
            let derived = Secret::derived(kid, &secret);
            keys.push(derived.map_err(|_| KeyringError::Underivable(index + 1))?);
        }
        if keys.is_empty() { Err(KeyringError::Empty) } else { Ok(Self { keys }) }
    }

    /// A fresh setting with one random key, for the embedded form.
    ///
    /// # Errors
    /// When the machine has no randomness.
    pub fn generate() -> Result<String, Unspecified> {
        let mut secret = [0; 32];
        aws_lc_rs::rand::fill(&mut secret)?;
        Ok(format!("k1:{}", BASE64_STANDARD.encode(secret)))
    }

    /// The tag of a message under the making key: `<kid>.<lower-case hex>`.
    #[must_use]
    pub fn sign(&self, purpose: Purpose, message: &[u8]) -> String {
        self.keys.first().map_or_else(String::new, |secret| {
            let tag = hmac::sign(secret.mac(purpose), message);
            format!("{}.{}", secret.kid, hex(tag.as_ref()))
        })
    }

    /// Whether a tag made by [`Keyring::sign`] belongs to the message, under any key.
    #[must_use]
    pub fn verify(&self, purpose: Purpose, message: &[u8], tag: &str) -> bool {
        let Some((kid, tag)) = tag.split_once('.') else {
            return false;
        };
        let Some(tag) = unhex(tag) else { return false };
        self.keys
            .iter()
            .filter(|known| known.kid == kid)
            .any(|known| hmac::verify(known.mac(purpose), message, &tag).is_ok())
    }

    /// The digests of a presented secret under every key, the making one first; what is stored is
    /// the first, what is looked up are all.
    pub fn digests_of(&self, secret: &[u8]) -> impl Iterator<Item = [u8; 32]> {
        self.keys.iter().map(|key| {
            let mut digest = [0; 32];
            let tag = hmac::sign(&key.psk, secret);
            digest.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
            digest
        })
    }

    /// The same as a list, for those who store.
    #[must_use]
    pub fn digests(&self, secret: &[u8]) -> Vec<Vec<u8>> {
        self.digests_of(secret).map(Vec::from).collect()
    }

    /// Seals bytes for the database, bound to `context` (who they belong to).
    ///
    /// # Errors
    /// When the machine has no randomness.
    pub fn seal(&self, context: &[u8], plain: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let Secret { kid, at_rest, .. } = self.keys.first().ok_or(Unspecified)?;
        let mut sealed = plain.to_vec();
        let nonce = at_rest.seal_in_place_append_tag(Aad::from(context), &mut sealed)?;
        let kid_length = u8::try_from(kid.len()).map_err(|_| Unspecified)?;
        let mut out = vec![kid_length];
        out.extend_from_slice(kid.as_bytes());
        out.extend_from_slice(nonce.as_ref());
        out.append(&mut sealed);
        Ok(out)
    }

    /// Opens what [`Keyring::seal`] made for the same context.
    ///
    /// # Errors
    /// When it was sealed under a key that is gone, for another context, or was changed.
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let (kid_length, rest) = sealed.split_first().ok_or(Unspecified)?;
        let (kid, rest) = rest.split_at_checked(usize::from(*kid_length)).ok_or(Unspecified)?;
        let (nonce, body) = rest.split_at_checked(NONCE_LEN).ok_or(Unspecified)?;
        let known = self.keys.iter().find(|known| known.kid.as_bytes() == kid);
        let key = &known.ok_or(Unspecified)?.at_rest;
        let nonce = Nonce::try_assume_unique_for_key(nonce)?;
        let mut body = body.to_vec();
        let length = key.open_in_place(nonce, Aad::from(context), &mut body)?.len();
        body.truncate(length);
        Ok(body)
    }
}

fn derive(secret: &[u8], label: &[u8]) -> Result<[u8; 32], Unspecified> {
    let mut key = [0; 32];
    let salt = Salt::new(HKDF_SHA256, b"dispatcher");
    salt.extract(secret).expand(&[label], Length(32))?.fill(&mut key)?;
    Ok(key)
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Bytes of lower- or upper-case hexadecimal, if it is that.
#[must_use]
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(kids: &[&str]) -> Keyring {
        let entry = |kid: &&str| format!("{kid}:{}", BASE64_STANDARD.encode([kid.len() as u8; 32]));
        Keyring::parse(&kids.iter().map(entry).collect::<Vec<_>>().join(",")).unwrap()
    }

    #[test]
    fn tags_and_seals_survive_a_rotation_and_nothing_else() {
        let (old, both, new) = (ring(&["a"]), ring(&["bb", "a"]), ring(&["bb"]));
        let tag = old.sign(Purpose::Upload, b"message");
        assert!(both.verify(Purpose::Upload, b"message", &tag));
        assert!(!new.verify(Purpose::Upload, b"message", &tag));
        assert!(!old.verify(Purpose::Playbook, b"message", &tag));
        assert!(!old.verify(Purpose::Upload, b"massage", &tag));
        let sealed = old.seal(b"run 1", b"secret").unwrap();
        assert_eq!(both.open(b"run 1", &sealed).unwrap(), b"secret");
        assert!(both.open(b"run 2", &sealed).is_err());
        assert!(new.open(b"run 1", &sealed).is_err());
        for cut in 0..sealed.len() {
            assert!(old.open(b"run 1", &sealed[..cut]).is_err());
        }
    }

    #[test]
    fn bad_settings_are_refused_without_showing_them() {
        for bad in ["", "nokid", "k:short", "k:AAAA", "k k:AAAA"] {
            let error = Keyring::parse(bad).unwrap_err().to_string();
            assert!(error.contains("DISPATCHER_SECRET_KEYS"), "{error}");
        }
        let key = BASE64_STANDARD.encode([1; 32]);
        assert!(Keyring::parse(&format!("a:{key},a:{key}")).is_err());
        assert!(Keyring::parse(&Keyring::generate().unwrap()).is_ok());
    }
}
