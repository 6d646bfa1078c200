//! Upload tokens: the right to send back the events of one run (decision 13). Pure.
//!
//! A token is `<run>.<organisation, hexadecimal>.<expiry, unix>.<tag>`, the tag over the rest. The
//! organisation is in it so that an upload is accepted without a look-up.

use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::{
    keyring::{Keyring, Purpose, hex, unhex},
    runs::model::NewRun,
};

/// How long after a run's time is over its events are still taken.
pub const GRACE: Duration = Duration::hours(24);

/// Whose events a token allows to send.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bearer {
    /// The run.
    pub run_id: Uuid,
    /// Its organisation.
    pub org_id: String,
}

/// Why a token does not count.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TokenError {
    /// It was not made by us.
    #[error("the upload token is not valid")]
    Invalid,
    /// It was, and is too old.
    #[error("the upload token has expired: the run is long over")]
    Expired,
}

/// A token for one run until then.
#[must_use]
pub fn issue(keyring: &Keyring, bearer: &Bearer, expires: OffsetDateTime) -> String {
    let (run_id, org) = (bearer.run_id, hex(bearer.org_id.as_bytes()));
    let message = format!("{run_id}.{org}.{}", expires.unix_timestamp());
    let tag = keyring.sign(Purpose::Upload, message.as_bytes());
    format!("{message}.{tag}")
}

/// Checks a token, in constant time where it matters.
///
/// # Errors
/// When it was not made by us, or has expired.
pub fn check(keyring: &Keyring, token: &str, now: OffsetDateTime) -> Result<Bearer, TokenError> {
    // The tag has a dot of its own.
    let end = token.match_indices('.').nth(2).ok_or(TokenError::Invalid)?.0;
    let (message, tag) = token.split_at_checked(end).ok_or(TokenError::Invalid)?;
    let tag = tag.strip_prefix('.').ok_or(TokenError::Invalid)?;
    if !keyring.verify(Purpose::Upload, message.as_bytes(), tag) {
        return Err(TokenError::Invalid);
    }
    let (bearer, expires) = parse(message).ok_or(TokenError::Invalid)?;
    if now.unix_timestamp() < expires { Ok(bearer) } else { Err(TokenError::Expired) }
}

fn parse(message: &str) -> Option<(Bearer, i64)> {
    let mut parts = message.split('.');
    let run_id = parts.next()?.parse().ok()?;
    let org_id = String::from_utf8(unhex(parts.next()?)?).ok()?;
    Some((Bearer { run_id, org_id }, parts.next()?.parse().ok()?))
}

/// Where a foreign host sends the events of a new run: `base` with the run's token.
#[must_use]
pub fn return_url(base: &str, keyring: &Keyring, run: &NewRun) -> String {
    let expires = run.created_at + Duration::seconds(i64::from(run.timeout)) + GRACE;
    let token = issue(keyring, &Bearer { run_id: run.id, org_id: run.org_id.clone() }, expires);
    let separator = if base.contains('?') { '&' } else { '?' };
    format!("{base}{separator}token={token}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::runs::model::NewRoute;

    fn keyring() -> Keyring {
        Keyring::parse(&Keyring::generate().unwrap()).unwrap()
    }

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(seconds).unwrap()
    }

    fn run() -> NewRun {
        NewRun {
            id: Uuid::new_v4(),
            org_id: "ö.1".to_owned(),
            recipient: Uuid::new_v4(),
            correlation_id: Uuid::new_v4(),
            url: "https://example.com/site.yml".to_owned(),
            labels: BTreeMap::new(),
            timeout: 100,
            service: "test".to_owned(),
            name: None,
            web_console_url: String::new(),
            principal: None,
            sat_id: None,
            sat_org_id: None,
            response_full: true,
            created_at: at(1000),
            hosts: Vec::new(),
            route: NewRoute::CloudConnector,
        }
    }

    #[test]
    fn a_token_holds_until_a_day_after_the_runs_time() {
        let (keyring, run) = (keyring(), run());
        let url = return_url("https://x.example/api/ingress/v1/upload", &keyring, &run);
        let token = url.strip_prefix("https://x.example/api/ingress/v1/upload?token=").unwrap();
        assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte)));
        let end = 1000 + 100 + 24 * 3600;
        let bearer = Bearer { run_id: run.id, org_id: run.org_id.clone() };
        assert_eq!(check(&keyring, token, at(end - 1)), Ok(bearer));
        assert_eq!(check(&keyring, token, at(end)), Err(TokenError::Expired));
        assert!(return_url("https://x.example/?a=b", &keyring, &run).contains("/?a=b&token="));
    }

    #[test]
    fn nothing_in_a_token_can_be_changed() {
        let keyring = keyring();
        let bearer = Bearer { run_id: Uuid::new_v4(), org_id: "1".to_owned() };
        let token = issue(&keyring, &bearer, at(5000));
        for at_byte in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at_byte] = if changed[at_byte] == b'1' { b'2' } else { b'1' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(check(&keyring, &changed, at(1)), Err(TokenError::Invalid), "{changed}");
            assert_eq!(check(&keyring, &token[..at_byte], at(1)), Err(TokenError::Invalid));
        }
        for garbage in ["", ".", "...", "....", "a.b.c.d", "ä.ö.ü.ß"] {
            assert_eq!(check(&keyring, garbage, at(1)), Err(TokenError::Invalid));
        }
        assert_eq!(check(&self::keyring(), &token, at(1)), Err(TokenError::Invalid));
    }
}
