//! What it costs to know who calls, in instructions: run under callgrind by `scripts/auth-cost.sh`,
//! which counts what the three functions below do. By itself it prints nothing of use.

use std::{hint::black_box, sync::Arc};

use anyhow::{Context, Result};
use async_trait::async_trait;
use auth_tracker::{
    clock::Clock,
    feed::{self, Feed},
    ports::{KeySource, PortError, Seal},
    sources::sso::configured,
    state::ServiceKey,
};
use aws_lc_rs::digest::{SHA256, digest};
use dispatcher_api::{
    auth::{current::Current, principal::Role, psk::own_keys, sso::rules::SsoRules},
    keyring::Keyring,
};
use dispatcher_tests::jwt::{Algorithm, SigningKey};
use futures_util::FutureExt as _;
use serde_json::json;
use time::OffsetDateTime;

/// How often each is done; the script divides by it.
const TIMES: usize = 1_000;
/// How many services have a key.
const SERVICES: usize = 100;

/// No database is asked: the keys of the settings are enough.
struct NoDatabase;

#[async_trait]
impl KeySource for NoDatabase {
    async fn version(&self) -> Result<u64, PortError> {
        Err(PortError("there is none".to_owned()))
    }

    async fn keys(&self, _: OffsetDateTime) -> Result<(u64, Vec<ServiceKey>), PortError> {
        Err(PortError("there is none".to_owned()))
    }
}

#[inline(never)]
fn counted_psk_check(current: &Current, header: &str, now: OffsetDateTime) -> bool {
    black_box(current.service(Some(black_box(header)), now)).is_ok()
}

#[inline(never)]
fn counted_token_check(current: &Current, token: &str, now: OffsetDateTime) -> bool {
    let known = current.user(black_box(token), now).now_or_never();
    matches!(black_box(known), Some(Ok(_)))
}

#[inline(never)]
fn counted_token_digest(token: &str) -> bool {
    black_box(digest(&SHA256, black_box(token).as_bytes())).as_ref().len() == 32
}

fn main() -> Result<()> {
    let now = OffsetDateTime::now_utc();
    let setting = Keyring::generate().context("the machine has no randomness")?;
    let keyring = Arc::new(Keyring::parse(&setting)?);
    let key = SigningKey::new("key-1", Algorithm::Rs256)?;
    let current = current(&keyring, &key)?;
    let header = format!("PSK {}", service_key(SERVICES / 2));
    let end = now.unix_timestamp() + 3_600;
    // As long as Keycloak's own, which name many roles.
    let roles: Vec<String> = (0..25).map(|number| format!("some-realm-role-{number}")).collect();
    let token = key.token(&json!({
        "iss": "https://sso.example.com/realms/r", "aud": "api", "sub": "someone",
        "org_id": "1", "exp": end, "realm_access": { "roles": roles },
    }))?;
    anyhow::ensure!(current.user(&token, now).now_or_never().is_some_and(|found| found.is_ok()));
    for _ in 0..TIMES {
        anyhow::ensure!(counted_psk_check(&current, &header, now));
        anyhow::ensure!(counted_token_check(&current, &token, now));
        anyhow::ensure!(counted_token_digest(&token));
    }
    println!("times {TIMES}");
    println!("token {}", token.len());
    Ok(())
}

fn service_key(number: usize) -> String {
    format!("{number:040}")
}

fn current(keyring: &Arc<Keyring>, key: &SigningKey) -> Result<Current> {
    let keys: Vec<_> =
        (0..SERVICES).map(|number| (format!("service{number}"), service_key(number))).collect();
    let keys = keys.iter().map(|(name, key)| (name.as_str(), key.as_str(), None, Role::Operator));
    let own = own_keys(keys, keyring)?;
    let public = configured(&key.public_pem()?).map_err(anyhow::Error::msg)?;
    let feed = Feed::new(feed::Parts {
        board: None,
        database: Arc::new(NoDatabase),
        sso: None,
        configured: Some(feed::configured(public, Vec::new())),
        settings: own.clone(),
        seal: Arc::clone(keyring) as Arc<dyn Seal>,
        max_staleness: std::time::Duration::from_secs(900),
        clock: Clock::system(),
    });
    let rules = SsoRules {
        audiences: vec!["api".to_owned()],
        org_claims: vec!["org_id".to_owned()],
        ..SsoRules::default()
    };
    Ok(Current::new(Arc::new(feed), Arc::clone(keyring), own, Some(rules)))
}
