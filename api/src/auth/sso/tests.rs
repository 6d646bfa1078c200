//! Genuine tokens, and everything that looks like one.

use auth_tracker::state::PublicKey;
use aws_lc_rs::{
    encoding::{AsDer as _, Pkcs8V1Der},
    rsa::{KeyPair, KeySize},
    signature::KeyPair as _,
};
use base64::prelude::BASE64_STANDARD;
use jsonwebtoken::{EncodingKey, crypto::sign};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::*;

const ISSUER: &str = "https://sso.example.com/realms/r";

/// A key of the SSO server, its private half too.
struct Issuer {
    private: EncodingKey,
    public: SsoKey,
    pem: String,
}

fn issuer(kid: Option<&str>) -> Issuer {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let pem = |label: &str, der: &[u8]| {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64_STANDARD.encode(der))
    };
    let private: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let private = pem("PRIVATE KEY", private.as_ref());
    let public = pem("RSA PUBLIC KEY", pair.public_key().as_ref());
    Issuer {
        private: EncodingKey::from_rsa_pem(private.as_bytes()).unwrap(),
        public: SsoKey {
            kid: kid.map(str::to_owned),
            algorithm: Algorithm::RS256,
            public: PublicKey::Pem { pem: public.clone() },
        },
        pem: public,
    }
}

fn state(keys: &[&Issuer]) -> AuthState {
    AuthState {
        sso_keys: keys.iter().map(|issuer| issuer.public.clone()).collect(),
        sso_issuers: vec![ISSUER.to_owned()],
        ..AuthState::default()
    }
}

fn rules() -> SsoRules {
    SsoRules {
        audiences: vec!["api".to_owned(), "dci".to_owned()],
        org_claims: vec!["org_id".to_owned()],
        ..SsoRules::default()
    }
}

fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

fn claims() -> Value {
    json!({"sub": "s", "org_id": "5", "iss": ISSUER, "aud": ["x", "api"], "exp": now() + 60})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn token_of(header: &str, claims: &str, key: &EncodingKey, algorithm: Algorithm) -> String {
    let [header, claims] =
        [header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.as_bytes()));
    let message = format!("{header}.{claims}");
    let signature = sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

fn token(issuer: &Issuer, kid: &str, claims: &Value) -> String {
    let header = json!({"alg": "RS256", "typ": "JWT", "kid": kid}).to_string();
    token_of(&header, &claims.to_string(), &issuer.private, Algorithm::RS256)
}

#[test]
fn a_genuine_token_names_its_caller() {
    let own = issuer(Some("a"));
    let keys = SsoKeys::new(&state(&[&own]), &rules());
    let verified = keys.verify(&token(&own, "a", &claims()), &rules()).unwrap();
    assert_eq!(verified.caller.principal.id, "s");
    assert_eq!(verified.caller.key_id.as_deref(), Some("a"));
    assert!(keys.has(&verified.key));
    for audience in [json!("dci"), json!(["dci"])] {
        assert!(keys.verify(&token(&own, "a", &with("aud", audience)), &rules()).is_ok());
    }
    // Clocks may be half a minute apart.
    for (name, at) in [("exp", -20), ("nbf", 20)] {
        assert!(keys.verify(&token(&own, "a", &with(name, json!(now() + at))), &rules()).is_ok());
    }
}

#[test]
fn a_key_that_is_gone_or_another_has_no_tokens() {
    let (own, other) = (issuer(Some("a")), issuer(Some("a")));
    let keys = SsoKeys::new(&state(&[&own]), &rules());
    let print = keys.verify(&token(&own, "a", &claims()), &rules()).unwrap().key;
    assert!(!SsoKeys::new(&state(&[]), &rules()).has(&print));
    assert!(!SsoKeys::new(&state(&[&other]), &rules()).has(&print), "a new key of the same name");
    let moved = AuthState { sso_issuers: vec!["https://x".to_owned()], ..state(&[&own]) };
    assert!(!SsoKeys::new(&moved, &rules()).has(&print));
}

#[test]
fn claims_that_do_not_fit_are_named() {
    let own = issuer(Some("a"));
    let keys = SsoKeys::new(&state(&[&own]), &rules());
    let audience = SsoError::Audience("api or dci".to_owned());
    let claim = |name: &str| SsoError::Claim(name.to_owned());
    for (claims, error) in [
        (with("exp", json!(now() - 40)), SsoError::Expired),
        (with("nbf", json!(now() + 40)), SsoError::NotYet),
        (with("nbf", json!("tomorrow")), claim("nbf")),
        (with("aud", json!("other")), audience.clone()),
        (with("aud", json!([])), audience),
        (with("aud", json!(5)), claim("aud")),
        (with("iss", json!("https://evil.example.com")), SsoError::Issuer(ISSUER.to_owned())),
        (with("iss", json!([ISSUER, "x"])), SsoError::Issuer(ISSUER.to_owned())),
        (with("exp", json!("tomorrow")), claim("exp")),
        (with("exp", json!(-1)), claim("exp")),
        (without("exp"), claim("exp")),
        (without("aud"), claim("aud")),
        (without("iss"), claim("iss")),
        (without("sub"), claim("sub")),
        (without("org_id"), SsoError::NoOrganization("org_id".to_owned())),
    ] {
        let found = keys.verify(&token(&own, "a", &claims), &rules()).unwrap_err();
        assert_eq!(found, error, "{claims}");
    }
}

#[test]
fn nobody_else_can_make_a_token() {
    let (own, evil) = (issuer(Some("a")), issuer(Some("a")));
    let keys = SsoKeys::new(&state(&[&own]), &rules());
    let claims = claims().to_string();
    let refused = |token: &str| keys.verify(token, &rules()).unwrap_err();
    let signed = |header: &str| token_of(header, &claims, &own.private, Algorithm::RS256);
    assert_eq!(refused(&token(&evil, "a", &self::claims())), SsoError::Signature);
    assert_eq!(refused(&token(&evil, "b", &self::claims())), SsoError::UnknownKey("b".to_owned()));
    // The public key as the secret of a symmetric algorithm.
    let secret = EncodingKey::from_secret(own.pem.as_bytes());
    let symmetric = token_of(r#"{"alg":"HS256","kid":"a"}"#, &claims, &secret, Algorithm::HS256);
    assert_eq!(refused(&symmetric), SsoError::Algorithm("HS256".to_owned()));
    for algorithm in ["none", "None", "", "RS384", "PS256", "rs256"] {
        let header = json!({"alg": algorithm, "kid": "a"}).to_string();
        assert_eq!(refused(&signed(&header)), SsoError::Algorithm(algorithm.to_owned()));
    }
    let unsigned = signed(r#"{"alg":"none","kid":"a"}"#);
    let unsigned = format!("{}.", unsigned.rsplit_once('.').unwrap().0);
    assert!(keys.verify(&unsigned, &rules()).is_err());
    for foreign in ["jku", "jwk", "x5u", "crit"] {
        let header = json!({"alg": "RS256", "kid": "a", foreign: ["x"]}).to_string();
        assert_eq!(refused(&signed(&header)), SsoError::Header(foreign));
    }
}

#[test]
fn what_is_no_token_is_malformed() {
    let own = issuer(Some("a"));
    let keys = SsoKeys::new(&state(&[&own]), &rules());
    let twice =
        |header: &str, claims: &str| token_of(header, claims, &own.private, Algorithm::RS256);
    let header = r#"{"alg":"RS256","kid":"a"}"#;
    let more = |more: &str| format!("{},{more}}}", claims().to_string().trim_end_matches('}'));
    for malformed in [
        String::new(),
        "x".to_owned(),
        "a.b".to_owned(),
        "a.b.c".to_owned(),
        "....".to_owned(),
        twice(r#"{"alg":"RS256","alg":"none","kid":"a"}"#, &claims().to_string()),
        twice(r#"{"alg":"RS256"}"#, &claims().to_string()),
        twice(&json!({"alg": "RS256", "kid": "k".repeat(300)}).to_string(), "{}"),
        twice(header, &more(r#""org_id":"6""#)),
        twice(header, &more(r#""exp":99999999999"#)),
        twice(header, &more(r#""groups":[{"a":1,"a":2}]"#)),
        twice(header, "[]"),
    ] {
        let error = keys.verify(&malformed, &rules()).unwrap_err();
        assert!(matches!(error, SsoError::Malformed(_)), "{malformed}: {error:?}");
    }
    let huge = "x".repeat(2 << 20);
    assert_eq!(keys.verify(&huge, &rules()).unwrap_err(), SsoError::TooLong(2 << 20));
    let genuine = token(&own, "a", &claims());
    for at in (0..genuine.len()).step_by(7) {
        let mut bytes = genuine.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        assert!(keys.verify(&changed, &rules()).is_err(), "byte {at}");
    }
}

#[test]
fn a_configured_key_counts_for_every_id_until_others_are_known() {
    let (configured, fetched) = (issuer(None), issuer(Some("a")));
    let keys = SsoKeys::new(&state(&[&configured]), &rules());
    for kid in ["a", "b"] {
        assert!(keys.verify(&token(&configured, kid, &claims()), &rules()).is_ok());
        let unknown = keys.verify(&token(&fetched, kid, &claims()), &rules()).unwrap_err();
        assert_eq!(unknown, SsoError::UnknownKey(kid.to_owned()));
    }
    let both = SsoKeys::new(&state(&[&configured, &fetched]), &rules());
    assert!(both.verify(&token(&fetched, "a", &claims()), &rules()).is_ok());
    let wrong = both.verify(&token(&configured, "a", &claims()), &rules()).unwrap_err();
    assert_eq!(wrong, SsoError::Signature, "the key of that name decides");
}

#[test]
fn other_algorithms_are_used_with_their_own_keys_only() {
    let ed = aws_lc_rs::signature::Ed25519KeyPair::generate().unwrap();
    let der = ed.to_pkcs8v1().unwrap();
    let x = BASE64_URL_SAFE_NO_PAD.encode(ed.public_key().as_ref());
    let key = |algorithm| SsoKey {
        kid: Some("ed".to_owned()),
        algorithm,
        public: PublicKey::Ed { x: x.clone() },
    };
    let keys = |algorithm| {
        let state = AuthState { sso_keys: vec![key(algorithm)], ..AuthState::default() };
        SsoKeys::new(&state, &rules())
    };
    let private = EncodingKey::from_ed_der(der.as_ref());
    let header = r#"{"alg":"EdDSA","kid":"ed"}"#;
    let token = token_of(header, &without("iss").to_string(), &private, Algorithm::EdDSA);
    assert!(keys(Algorithm::EdDSA).verify(&token, &rules()).is_ok(), "no issuer is known");
    for wrong in [Algorithm::RS256, Algorithm::HS256, Algorithm::ES256] {
        let unknown = keys(wrong).verify(&token, &rules()).unwrap_err();
        assert_eq!(unknown, SsoError::UnknownKey("ed".to_owned()));
    }
}
