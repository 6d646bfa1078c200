//! Which keys of a key set are used, and with which algorithm. Pure.
//!
//! Every key gets exactly one algorithm, so that a token cannot choose. Keys for encryption, of
//! unknown kinds, too short, or symmetric are left out, each with its reason.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ParsedPublicKey};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, AlgorithmFamily};
use serde::Deserialize;

use crate::state::{PublicKey, SsoKey};

/// The most keys of a set that are looked at.
const MOST_KEYS: usize = 64;
/// The longest id of a key.
const LONGEST_KID: usize = 256;
/// How long an RSA key may be, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<serde_json::Value>,
}

/// The members of a key that matter; private ones are not even read.
#[derive(Deserialize)]
struct Published {
    kty: String,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// What a key set contains.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usable {
    /// Keys that check tokens.
    pub keys: Vec<SsoKey>,
    /// Keys that do not, and why.
    pub ignored: Vec<String>,
}

/// Takes a key set apart.
///
/// # Errors
/// When it is not a key set at all.
pub fn usable(set: &[u8]) -> Result<Usable, serde_json::Error> {
    let set: KeySet = serde_json::from_slice(set)?;
    let mut usable = Usable::default();
    let more = set.keys.len().saturating_sub(MOST_KEYS);
    for (index, value) in set.keys.into_iter().take(MOST_KEYS).enumerate() {
        let published = Published::deserialize(value);
        match published.map_err(|error| (format!("number {}", index + 1), error.to_string())) {
            Ok(published) => match sso_key(&published) {
                Ok(key) => usable.keys.push(key),
                Err(why) => usable.ignored.push(ignored(&name(&published, index), &why)),
            },
            Err((name, why)) => usable.ignored.push(ignored(&name, &why)),
        }
    }
    if more > 0 {
        usable.ignored.push(format!("{more} keys beyond the first {MOST_KEYS}"));
    }
    Ok(usable)
}

/// The key that was configured: RSA as PEM, for RS256 and every key id.
///
/// # Errors
/// When it is not a public RSA key.
pub fn configured(pem: &str) -> Result<SsoKey, String> {
    let text = pem.replace("\\n", "\n").trim().to_owned();
    // Keycloak's pages show the key without its frame.
    let pem = if text.starts_with("-----BEGIN") {
        text
    } else {
        format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
    };
    let public = PublicKey::Pem { pem };
    let key = SsoKey { kid: None, algorithm: Algorithm::RS256, public };
    key.decoding_key().map_err(|error| format!("it is not a public RSA key as PEM: {error}"))?;
    Ok(key)
}

fn ignored(name: &str, why: &str) -> String {
    format!("key {name}: {why}")
}

fn name(key: &Published, index: usize) -> String {
    let kid = key.kid.as_deref().map(|kid| kid.chars().take(64).collect::<String>());
    kid.unwrap_or_else(|| format!("number {}", index + 1))
}

fn sso_key(key: &Published) -> Result<SsoKey, String> {
    if let Some(purpose) = key.purpose.as_deref().filter(|purpose| *purpose != "sig") {
        return Err(format!("it is for {purpose:?}, not for signatures"));
    }
    if key.key_ops.as_ref().is_some_and(|ops| !ops.iter().any(|op| op == "verify")) {
        return Err("its operations do not include \"verify\"".to_owned());
    }
    if key.kid.as_ref().is_some_and(|kid| kid.len() > LONGEST_KID) {
        return Err(format!("its id is longer than {LONGEST_KID} bytes"));
    }
    let (public, family, default) = public_key(key)?;
    let algorithm = match key.alg.as_deref() {
        None => default,
        Some("Ed25519") if default == Algorithm::EdDSA => default,
        Some(named) => fitting(named, family, default)?,
    };
    let key = SsoKey { kid: key.kid.clone(), algorithm, public };
    key.decoding_key().map_err(|error| error.to_string())?;
    Ok(key)
}

/// The algorithm that a key names, if it is one for such keys: any for RSA, the curve's own
/// otherwise.
fn fitting(named: &str, family: AlgorithmFamily, default: Algorithm) -> Result<Algorithm, String> {
    let fits = |known: &Algorithm| {
        known.family() == family && (family == AlgorithmFamily::Rsa || *known == default)
    };
    let known = named.parse().ok().filter(fits);
    known.ok_or_else(|| format!("its algorithm {named:?} does not belong to its kind"))
}

fn public_key(key: &Published) -> Result<(PublicKey, AlgorithmFamily, Algorithm), String> {
    match (key.kty.as_str(), key.crv.as_deref()) {
        ("RSA", _) => {
            let (n, e) = (member("n", key.n.as_ref())?, member("e", key.e.as_ref())?);
            let bits = bits(&decoded("n", &n)?);
            decoded("e", &e)?;
            if !RSA_BITS.contains(&bits) {
                let (least, most) = (RSA_BITS.start(), RSA_BITS.end());
                return Err(format!("it has {bits} bits; allowed: {least} to {most}"));
            }
            Ok((PublicKey::Rsa { n, e }, AlgorithmFamily::Rsa, Algorithm::RS256))
        }
        ("EC", Some("P-256")) => on_curve(key, 32, Algorithm::ES256),
        ("EC", Some("P-384")) => on_curve(key, 48, Algorithm::ES384),
        ("OKP", Some("Ed25519")) => {
            let x = member("x", key.x.as_ref())?;
            let length = decoded("x", &x)?.len();
            let public = PublicKey::Ed { x };
            if length != 32 {
                return Err(format!("it has {length} bytes; Ed25519 has 32"));
            }
            Ok((public, AlgorithmFamily::Ed, Algorithm::EdDSA))
        }
        ("oct", _) => Err("it is symmetric: whoever could check could also make tokens".to_owned()),
        (kind, None) => Err(format!("its kind {kind:?} is not known here")),
        (kind, Some(curve)) => Err(format!("its kind {kind:?} on {curve:?} is not known here")),
    }
}

fn on_curve(
    key: &Published,
    length: usize,
    algorithm: Algorithm,
) -> Result<(PublicKey, AlgorithmFamily, Algorithm), String> {
    let (x, y) = (member("x", key.x.as_ref())?, member("y", key.y.as_ref())?);
    let (one, other) = (decoded("x", &x)?, decoded("y", &y)?);
    if one.len() != length || other.len() != length {
        return Err(format!("its coordinates do not have {length} bytes each"));
    }
    let point = [&[4][..], &one, &other].concat();
    let curve = match algorithm {
        Algorithm::ES256 => &ECDSA_P256_SHA256_FIXED,
        _ => &ECDSA_P384_SHA384_FIXED,
    };
    ParsedPublicKey::new(curve, point).map_err(|_| "it is no point of its curve".to_owned())?;
    Ok((PublicKey::Ec { x, y }, AlgorithmFamily::Ec, algorithm))
}

fn member(name: &str, value: Option<&String>) -> Result<String, String> {
    // Padding is not allowed there, and comes all the same.
    let value = value.map(|text| text.trim_end_matches('=').to_owned());
    value.ok_or_else(|| format!("it has no {name:?}"))
}

fn decoded(name: &str, text: &str) -> Result<Vec<u8>, String> {
    BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| format!("its {name:?} is not base64url"))
}

/// The length of a number in bits.
fn bits(number: &[u8]) -> usize {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros).map_or(0, |first| (number.len() - zeros) * 8 - first.leading_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    const P256_X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
    const P256_Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";

    fn modulus(bits: usize) -> String {
        let mut number = vec![0xff; bits / 8];
        number[0] = 0x80;
        BASE64_URL_SAFE_NO_PAD.encode(number)
    }

    fn of(keys: &serde_json::Value) -> Usable {
        usable(serde_json::json!({ "keys": keys }).to_string().as_bytes()).unwrap()
    }

    #[test]
    fn each_kind_of_key_has_one_algorithm() {
        let n = modulus(2048);
        let set = of(&serde_json::json!([
            { "kid": "a", "kty": "RSA", "use": "sig", "n": n, "e": "AQAB" },
            { "kid": "b", "kty": "RSA", "alg": "PS512", "n": n, "e": "AQAB" },
            { "kid": "c", "kty": "EC", "crv": "P-256", "x": P256_X, "y": P256_Y },
            { "kid": "d", "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA",
              "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" },
            { "kty": "RSA", "alg": "RS256", "n": n, "e": "AQAB", "d": "private" },
        ]));
        assert_eq!(set.ignored, Vec::<String>::new());
        let algorithms: Vec<_> = set.keys.iter().map(|key| key.algorithm).collect();
        use Algorithm::{ES256, EdDSA, PS512, RS256};
        assert_eq!(algorithms, [RS256, PS512, ES256, EdDSA, RS256]);
        assert_eq!(set.keys[4].kid, None);
        assert!(!format!("{set:?}").contains("private"));
    }

    #[test]
    fn everything_else_is_left_out_with_its_reason() {
        let n = modulus(2048);
        for (key, why) in [
            (serde_json::json!({ "kty": "RSA", "use": "enc", "n": n, "e": "AQAB" }), "\"enc\""),
            (serde_json::json!({ "kty": "RSA", "n": modulus(1024), "e": "AQAB" }), "1024 bits"),
            (serde_json::json!({ "kty": "RSA", "alg": "HS256", "n": n, "e": "AQAB" }), "HS256"),
            (serde_json::json!({ "kty": "RSA", "alg": "RSA-OAEP", "n": n, "e": "AQAB" }), "OAEP"),
            (
                serde_json::json!({ "kty": "RSA", "key_ops": ["encrypt"], "n": n, "e": "AQAB" }),
                "verify",
            ),
            (serde_json::json!({ "kty": "RSA", "n": "+/", "e": "AQAB" }), "base64url"),
            (serde_json::json!({ "kty": "RSA", "n": n }), "no \"e\""),
            (
                serde_json::json!({ "kty": "RSA", "kid": "k".repeat(257), "n": n, "e": "AQAB" }),
                "256",
            ),
            (serde_json::json!({ "kty": "oct", "k": "AAAA" }), "symmetric"),
            (serde_json::json!({ "kty": "EC", "crv": "P-521", "x": "", "y": "" }), "P-521"),
            (
                serde_json::json!({ "kty": "EC", "crv": "P-256", "x": P256_X, "y": P256_X }),
                "no point",
            ),
            (
                serde_json::json!({ "kty": "EC", "crv": "P-256", "alg": "ES384", "x": P256_X, "y": P256_Y }),
                "ES384",
            ),
            (serde_json::json!({ "kty": "OKP", "crv": "Ed25519", "x": "AAAA" }), "Ed25519 has 32"),
            (serde_json::json!({ "kty": "AKP" }), "not known"),
            (serde_json::json!({ "kid": 7 }), "number 1"),
        ] {
            let set = of(&serde_json::json!([key]));
            assert!(set.keys.is_empty(), "{key}");
            assert!(set.ignored[0].contains(why), "{:?} for {key}", set.ignored);
        }
    }

    #[test]
    fn a_set_is_not_endless_and_not_anything() {
        let key = serde_json::json!({ "kty": "AKP" });
        let set = of(&serde_json::Value::Array(vec![key; 70]));
        assert_eq!(set.ignored.len(), MOST_KEYS + 1);
        assert!(usable(b"{}").is_err() && usable(b"<html>").is_err());
    }

    #[test]
    fn configured_keys_are_tried() {
        assert!(configured("hunter2").is_err());
        assert!(
            configured("-----BEGIN PUBLIC KEY-----\\nAAAA\\n-----END PUBLIC KEY-----").is_err()
        );
    }
}
