//! The device flow of the test issuer (RFC 8628): codes, polls, and what people decide.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use axum::http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

/// What a device asks for when it polls.
pub(crate) const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// What was decided about a device.
pub(crate) enum Grant {
    Pending,
    Approved(String),
    Denied,
}

/// Devices that wait.
pub(crate) struct Devices {
    interval: u64,
    expires_in: u64,
    waiting: BTreeMap<String, Device>,
}

struct Device {
    user_code: String,
    client: String,
    grant: Grant,
    interval: Duration,
    begun: Instant,
    polled: Option<Instant>,
}

impl Default for Devices {
    fn default() -> Self {
        Self { interval: 1, expires_in: 600, waiting: BTreeMap::new() }
    }
}

impl Devices {
    pub(crate) fn set_times(&mut self, interval: u64, expires_in: u64) {
        (self.interval, self.expires_in) = (interval, expires_in);
    }

    pub(crate) fn waiting(&self) -> Vec<String> {
        let open = |device: &&Device| matches!(device.grant, Grant::Pending);
        self.waiting.values().filter(open).map(|device| device.user_code.clone()).collect()
    }

    pub(crate) fn decide(&mut self, user_code: &str, grant: Grant) -> Result<()> {
        let mut devices = self.waiting.values_mut();
        let device = devices.find(|device| device.user_code == user_code);
        device.with_context(|| format!("nobody shows the code {user_code:?}"))?.grant = grant;
        Ok(())
    }

    pub(crate) fn begin(
        &mut self,
        form: &BTreeMap<String, String>,
        verification: &str,
    ) -> (StatusCode, Value) {
        let Some(client) = form.get("client_id") else {
            return refused("invalid_client");
        };
        let code = Uuid::new_v4().simple().to_string();
        let user_code = Uuid::new_v4().simple().to_string().to_uppercase();
        let user_code: String = user_code.chars().take(8).collect();
        let device = Device {
            user_code: user_code.clone(),
            client: client.clone(),
            grant: Grant::Pending,
            interval: Duration::from_secs(self.interval),
            begun: Instant::now(),
            polled: None,
        };
        self.waiting.insert(code.clone(), device);
        let complete = format!("{verification}?user_code={user_code}");
        let answer = json!({
            "device_code": code, "user_code": user_code, "verification_uri": verification,
            "verification_uri_complete": complete, "expires_in": self.expires_in,
            "interval": self.interval,
        });
        (StatusCode::OK, answer)
    }

    pub(crate) fn poll(&mut self, form: &BTreeMap<String, String>) -> (StatusCode, Value) {
        if form.get("grant_type").is_none_or(|kind| kind != GRANT_TYPE) {
            return refused("unsupported_grant_type");
        }
        let code = form.get("device_code").cloned().unwrap_or_default();
        let Some(device) = self.waiting.get_mut(&code) else { return refused("invalid_grant") };
        if form.get("client_id") != Some(&device.client) {
            return refused("invalid_client");
        }
        if device.begun.elapsed() > Duration::from_secs(self.expires_in) {
            return refused("expired_token");
        }
        let before = device.polled.replace(Instant::now());
        if before.is_some_and(|before| before.elapsed() < device.interval) {
            device.interval += Duration::from_secs(5);
            return refused("slow_down");
        }
        let answer = match &device.grant {
            Grant::Pending => return refused("authorization_pending"),
            Grant::Denied => refused("access_denied"),
            Grant::Approved(token) => (
                StatusCode::OK,
                json!({ "access_token": token, "token_type": "Bearer", "expires_in": 300 }),
            ),
        };
        // A code is good for one answer.
        self.waiting.remove(&code);
        answer
    }
}

fn refused(error: &str) -> (StatusCode, Value) {
    (StatusCode::BAD_REQUEST, json!({ "error": error }))
}
