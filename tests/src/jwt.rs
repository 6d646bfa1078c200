//! Tokens as an issuer signs them, and as an attacker would: any header, any claims, any key.

use anyhow::{Context, Result};
use aws_lc_rs::{
    encoding::{AsDer as _, PublicKeyX509Der},
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
        RSA_PKCS1_SHA256, RsaKeyPair,
    },
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// How a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA, 2048 bits.
    Rs256,
    /// ECDSA on P-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

/// A key of an issuer.
pub struct SigningKey {
    /// Its id.
    pub kid: String,
    algorithm: Algorithm,
    pair: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl SigningKey {
    /// A new key.
    ///
    /// # Errors
    /// When the machine has no randomness.
    pub fn new(kid: &str, algorithm: Algorithm) -> Result<Self> {
        let pair = match algorithm {
            Algorithm::Rs256 => RsaKeyPair::generate(KeySize::Rsa2048).map(Pair::Rsa),
            Algorithm::Es256 => {
                EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map(Pair::Ecdsa)
            }
            Algorithm::EdDsa => Ed25519KeyPair::generate().map(Pair::Ed25519),
        };
        let pair = pair.ok().context("no key could be made")?;
        Ok(Self { kid: kid.to_owned(), algorithm, pair })
    }

    /// The name of its algorithm in tokens.
    #[must_use]
    pub fn alg(&self) -> &'static str {
        match self.algorithm {
            Algorithm::Rs256 => "RS256",
            Algorithm::Es256 => "ES256",
            Algorithm::EdDsa => "EdDSA",
        }
    }

    /// A token that it signs as it should.
    ///
    /// # Errors
    /// When it cannot sign.
    pub fn token(&self, claims: &Value) -> Result<String> {
        self.sign(&json!({ "alg": self.alg(), "kid": self.kid, "typ": "JWT" }), claims)
    }

    /// A token with this very header, whatever it says.
    ///
    /// # Errors
    /// When it cannot sign.
    pub fn sign(&self, header: &Value, claims: &Value) -> Result<String> {
        let message = message(header, claims);
        let random = SystemRandom::new();
        let signature = match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let bytes = message.as_bytes();
                let signed = pair.sign(&RSA_PKCS1_SHA256, &random, bytes, &mut signature);
                signed.ok().context("RSA does not sign")?;
                signature
            }
            Pair::Ecdsa(pair) => {
                let signed = pair.sign(&random, message.as_bytes());
                signed.ok().context("ECDSA does not sign")?.as_ref().to_vec()
            }
            Pair::Ed25519(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
        };
        Ok(format!("{message}.{}", encoded(&signature)))
    }

    /// Its public half as issuers show it.
    #[must_use]
    pub fn jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Rsa(pair) => {
                let modulus = pair.public_key().modulus().big_endian_without_leading_zero();
                let exponent = pair.public_key().exponent().big_endian_without_leading_zero();
                json!({ "kty": "RSA", "n": encoded(modulus), "e": encoded(exponent) })
            }
            Pair::Ecdsa(pair) => {
                // A point without compression: 4, x, y.
                let point = pair.public_key().as_ref();
                let part = |range| encoded(point.get(range).unwrap_or_default());
                json!({ "kty": "EC", "crv": "P-256", "x": part(1..33), "y": part(33..65) })
            }
            Pair::Ed25519(pair) => {
                let x = encoded(pair.public_key().as_ref());
                json!({ "kty": "OKP", "crv": "Ed25519", "x": x })
            }
        };
        if let Some(jwk) = jwk.as_object_mut() {
            jwk.insert("kid".to_owned(), json!(self.kid));
            jwk.insert("alg".to_owned(), json!(self.alg()));
            jwk.insert("use".to_owned(), json!("sig"));
        }
        jwk
    }

    /// Its public half as PEM (SPKI), as operators configure it.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn public_pem(&self) -> Result<String> {
        let der: Option<PublicKeyX509Der<'_>> = match &self.pair {
            Pair::Rsa(pair) => pair.public_key().as_der().ok(),
            Pair::Ecdsa(pair) => pair.public_key().as_der().ok(),
            Pair::Ed25519(pair) => pair.public_key().as_der().ok(),
        };
        let der = der.context("a key that cannot be encoded")?;
        let text = base64::prelude::BASE64_STANDARD.encode(der.as_ref());
        let lines: Vec<&str> =
            text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
        let body = lines.join("\n");
        Ok(format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n"))
    }
}

/// A token that nobody signed.
#[must_use]
pub fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.", message(header, claims))
}

/// A token signed with a secret that everybody may know, such as the text of a public key.
#[must_use]
pub fn hmac_signed(secret: &[u8], header: &Value, claims: &Value) -> String {
    let message = message(header, claims);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
    format!("{message}.{}", encoded(tag.as_ref()))
}

fn message(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| encoded(value.to_string().as_bytes());
    format!("{}.{}", part(header), part(claims))
}

fn encoded(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}
