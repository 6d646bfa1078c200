//! Whether a playbook is the one that was meant: its SHA-256, and a detached Ed25519 signature over
//! its bytes as they were fetched. Decided before anything of it is opened or executed.

use std::{
    io::{self, Read},
    path::Path,
};

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{Context, SHA256},
    signature::{ED25519, UnparsedPublicKey},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};

/// What stands before the 32 bytes of an Ed25519 key in its X.509 form.
const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";
/// The most keys.
const MAX_KEYS: usize = 64;

/// Which playbooks are executed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Mode {
    /// All; what is given with one is checked all the same.
    #[default]
    Off,
    /// Those that were dispatched with their SHA-256.
    Pinned,
    /// Those that somebody with a configured key has signed.
    Signed,
}

impl std::str::FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "pinned" => Ok(Self::Pinned),
            "signed" => Ok(Self::Signed),
            _ => Err("allowed: off, pinned, signed".to_owned()),
        }
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Pinned => "pinned",
            Self::Signed => "signed",
        })
    }
}

/// Which playbooks are executed, and whose signatures count.
#[derive(Clone, Debug, Default)]
pub struct Verification {
    mode: Mode,
    keys: Vec<[u8; 32]>,
}

/// What a dispatch says of its playbook.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claimed {
    /// Its SHA-256, in hexadecimal.
    pub(crate) sha256: Option<String>,
    /// A signature, in base64.
    pub(crate) signature: Option<String>,
}

impl Verification {
    /// With the keys of a file in PEM.
    ///
    /// # Errors
    /// In words, when the file holds anything but Ed25519 public keys, or none where signatures are
    /// required.
    pub fn new(mode: Mode, pem: Option<&str>) -> Result<Self, String> {
        let keys = pem.map(keys_of).transpose()?.unwrap_or_default();
        if mode == Mode::Signed && keys.is_empty() {
            return Err(
                "WORKER_VERIFY=signed needs WORKER_VERIFY_KEYS, a file with the public keys \
                        (PEM) whose signatures count"
                    .to_owned(),
            );
        }
        Ok(Self { mode, keys })
    }

    /// Checks a playbook. Blocking. The error says why it is not executed.
    pub(crate) fn check(&self, playbook: &Path, claimed: &Claimed) -> Result<(), String> {
        if self.mode == Mode::Pinned && claimed.sha256.is_none() {
            return Err(
                "this worker executes only playbooks whose SHA-256 is dispatched with them \
                        (WORKER_VERIFY=pinned); use dispatchctl run --sha256"
                    .to_owned(),
            );
        }
        if self.mode == Mode::Signed && claimed.signature.is_none() {
            return Err("this worker executes only signed playbooks (WORKER_VERIFY=signed); use \
                        dispatchctl run --signature"
                .to_owned());
        }
        let unreadable = |error: io::Error| format!("it cannot be read again: {error}");
        if let Some(expected) = &claimed.sha256 {
            let found = sha256_of(playbook).map_err(unreadable)?;
            if verify_slices_are_equal(found.as_bytes(), expected.to_ascii_lowercase().as_bytes())
                .is_err()
            {
                return Err(format!("its SHA-256 is {found}, and {expected} was dispatched"));
            }
        }
        match &claimed.signature {
            Some(signature) if !self.keys.is_empty() => {
                let content = std::fs::read(playbook).map_err(unreadable)?;
                self.is_signed(&content, signature)
            }
            _ => Ok(()),
        }
    }

    fn is_signed(&self, content: &[u8], signature: &str) -> Result<(), String> {
        let signature = BASE64_STANDARD
            .decode(signature)
            .map_err(|error| format!("its signature is not base64: {error}"))?;
        let by = |key: &[u8; 32]| UnparsedPublicKey::new(&ED25519, key).verify(content, &signature);
        if self.keys.iter().any(|key| by(key).is_ok()) {
            return Ok(());
        }
        Err(format!(
            "its signature was made by none of the {} keys of WORKER_VERIFY_KEYS, or over something \
             else",
            self.keys.len()
        ))
    }
}

fn sha256_of(path: &Path) -> io::Result<String> {
    let (mut file, mut digest) = (std::fs::File::open(path)?, Context::new(&SHA256));
    let mut piece = vec![0; 64 * 1024];
    loop {
        let length = file.read(&mut piece)?;
        if length == 0 {
            let digest = digest.finish();
            return Ok(digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        digest.update(piece.get(..length).unwrap_or_default());
    }
}

/// Every key of a text in PEM.
fn keys_of(pem: &str) -> Result<Vec<[u8; 32]>, String> {
    let wrong = |nth: usize| {
        format!(
            "key {nth} of WORKER_VERIFY_KEYS is no Ed25519 public key in PEM; make one with \
             `openssl genpkey -algorithm ed25519 -out key.pem` and `openssl pkey -in key.pem -pubout`"
        )
    };
    let mut keys = Vec::new();
    for block in pem.split(BEGIN).skip(1) {
        let nth = keys.len() + 1;
        let (body, _) = block.split_once(END).ok_or_else(|| wrong(nth))?;
        let body: String = body.split_ascii_whitespace().collect();
        let der = BASE64_STANDARD.decode(body).map_err(|_| wrong(nth))?;
        let key = der.strip_prefix(&SPKI_PREFIX).and_then(|key| <[u8; 32]>::try_from(key).ok());
        keys.push(key.ok_or_else(|| wrong(nth))?);
        if keys.len() > MAX_KEYS {
            return Err(format!("WORKER_VERIFY_KEYS holds more than {MAX_KEYS} keys"));
        }
    }
    if keys.is_empty() { Err(wrong(1)) } else { Ok(keys) }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

    use super::*;

    fn pair() -> (Ed25519KeyPair, String) {
        let pair = Ed25519KeyPair::generate().unwrap();
        let der = [SPKI_PREFIX.as_slice(), pair.public_key().as_ref()].concat();
        let pem = format!("{BEGIN}\n{}\n{END}\n", BASE64_STANDARD.encode(der));
        (pair, pem)
    }

    fn claimed(sha256: Option<&str>, signature: Option<&[u8]>) -> Claimed {
        let signature = signature.map(|signature| BASE64_STANDARD.encode(signature));
        Claimed { sha256: sha256.map(str::to_owned), signature }
    }

    #[test]
    fn every_mode_takes_what_it_should() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc").unwrap();
        let right = "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD";
        let ((one, pem), (other, other_pem)) = (pair(), pair());
        let (good, stranger) = (one.sign(b"abc"), other.sign(b"abc"));
        let moved = one.sign(b"abd");
        let check = |mode, keys: Option<&str>, claimed: &Claimed| {
            Verification::new(mode, keys).unwrap().check(file.path(), claimed)
        };
        let (pinned, wrong) = (claimed(Some(right), None), claimed(Some(&"0".repeat(64)), None));
        for mode in [Mode::Off, Mode::Pinned] {
            assert!(check(mode, None, &pinned).is_ok());
            assert!(check(mode, None, &wrong).unwrap_err().contains("was dispatched"));
        }
        assert!(check(Mode::Off, None, &claimed(None, None)).is_ok());
        assert!(check(Mode::Pinned, None, &claimed(None, None)).unwrap_err().contains("--sha256"));
        let signed = |signature: &[u8]| claimed(None, Some(signature));
        for mode in [Mode::Off, Mode::Signed] {
            assert!(check(mode, Some(&pem), &signed(good.as_ref())).is_ok());
            for bad in [stranger.as_ref(), moved.as_ref(), b"short"] {
                let told = check(mode, Some(&pem), &signed(bad)).unwrap_err();
                assert!(told.contains("none of the 1 keys"), "{told}");
            }
        }
        let both = format!("{pem}{other_pem}");
        assert!(check(Mode::Signed, Some(&both), &signed(stranger.as_ref())).is_ok());
        assert!(check(Mode::Signed, Some(&pem), &pinned).unwrap_err().contains("--signature"));
        let mixed = Claimed { sha256: wrong.sha256, ..signed(good.as_ref()) };
        assert!(check(Mode::Signed, Some(&pem), &mixed).is_err(), "both count");
    }

    #[test]
    fn keys_that_are_none_stop_the_start() {
        let (_, pem) = pair();
        assert!(Verification::new(Mode::Signed, None).unwrap_err().contains("WORKER_VERIFY_KEYS"));
        for wrong in ["", "hello", &pem.replace(END, ""), &pem.replace("MCow", "MCoW")] {
            let told = Verification::new(Mode::Off, Some(wrong)).unwrap_err();
            assert!(told.contains("openssl"), "{told}");
        }
        assert_eq!("pinned".parse(), Ok(Mode::Pinned));
        assert!("maybe".parse::<Mode>().is_err());
    }
}
