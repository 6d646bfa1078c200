//! The device flow (RFC 8628): a code for the person, and asking until they have agreed.

use std::time::{Duration, Instant};

use serde::Deserialize;

use super::issuer::{Answered, Issuer, Refusal, post};
use crate::{
    output::note,
    text,
    trouble::{Result, Trouble},
};

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// Between two questions where the server says nothing.
const INTERVAL: u64 = 5;
/// What is added to that when it is too fast.
const SLOWER: Duration = Duration::from_secs(5);
/// The longest that a code is waited for.
const MOST: u64 = 3600;

/// What the server answers to the beginning.
#[derive(Deserialize)]
struct Begun {
    device_code: String,
    user_code: String,
    verification_uri: String,
    #[serde(default)]
    verification_uri_complete: Option<String>,
    expires_in: u64,
    #[serde(default)]
    interval: Option<u64>,
}

/// What it gives in the end. Never shown.
#[derive(Deserialize)]
pub(super) struct Tokens {
    /// For requests.
    pub(super) access_token: String,
    /// For the next one.
    #[serde(default)]
    pub(super) refresh_token: Option<String>,
    /// How long the first one lasts, in seconds.
    #[serde(default)]
    pub(super) expires_in: Option<i64>,
}

/// What a refusal means while the person has not decided.
#[derive(Debug, Eq, PartialEq)]
enum Next {
    /// Ask again after the interval.
    Wait,
    /// Ask again, from now on more slowly.
    WaitLonger,
    /// It is over, and why.
    Over(String),
}

/// Gets tokens for the person in front of a browser.
pub(super) async fn authorize(issuer: &Issuer, client_id: &str, scopes: &str) -> Result<Tokens> {
    let form = [("client_id", client_id), ("scope", scopes)];
    let begun: Begun = match post(issuer.device_endpoint()?, &form).await? {
        Answered::Given(begun) => begun,
        Answered::Refused(refusal) => {
            let message = format!("{} does not begin a login: {}", issuer.issuer, refusal.told());
            return Err(Trouble::failed(message));
        }
    };
    show(&begun);
    let until = Instant::now() + Duration::from_secs(begun.expires_in.min(MOST));
    let mut interval = Duration::from_secs(begun.interval.unwrap_or(INTERVAL).max(1));
    let code = begun.device_code.as_str();
    let form = [("grant_type", GRANT_TYPE), ("device_code", code), ("client_id", client_id)];
    loop {
        if Instant::now() + interval > until {
            return Err(Trouble::failed("nobody entered the code in time; try again"));
        }
        tokio::time::sleep(interval).await;
        match post(&issuer.token_endpoint, &form).await {
            Ok(Answered::Given(tokens)) => return Ok(tokens),
            Ok(Answered::Refused(refusal)) => match next(&refusal) {
                Next::Wait => {}
                Next::WaitLonger => interval += SLOWER,
                Next::Over(why) => return Err(Trouble::failed(why)),
            },
            // The server may be back before the code has expired.
            Err(trouble) if trouble.is_connection() => interval += SLOWER,
            Err(trouble) => return Err(trouble),
        }
    }
}

fn show(begun: &Begun) {
    let clean = |text: &str| text::clean(text);
    note("Open this address in any browser, on any machine:");
    note(&format!("  {}", clean(&begun.verification_uri)));
    note(&format!("and enter the code {}", clean(&begun.user_code)));
    if let Some(whole) = &begun.verification_uri_complete {
        note(&format!("or open {}", clean(whole)));
    }
}

fn next(refusal: &Refusal) -> Next {
    match refusal.error.as_str() {
        "authorization_pending" => Next::Wait,
        "slow_down" => Next::WaitLonger,
        "expired_token" => Next::Over("nobody entered the code in time; try again".to_owned()),
        "access_denied" => Next::Over("the login was refused in the browser".to_owned()),
        _ => Next::Over(format!("the login failed: {}", refusal.told())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_whether_to_go_on() {
        let after = |error: &str| {
            next(&serde_json::from_value(serde_json::json!({ "error": error })).unwrap())
        };
        assert_eq!(after("authorization_pending"), Next::Wait);
        assert_eq!(after("slow_down"), Next::WaitLonger);
        for (error, part) in
            [("expired_token", "in time"), ("access_denied", "refused"), ("odd", "odd")]
        {
            let Next::Over(why) = after(error) else { panic!("{error}") };
            assert!(why.contains(part), "{why}");
        }
    }
}
