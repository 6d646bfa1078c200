//! Cloud Connector over HTTP (contract §2): messages to hosts and Satellites, and whether they are
//! connected.
//!
//! Nothing is sent twice. Of every message it says whether it was taken, certainly not delivered, or
//! nobody knows (decision 3); what follows from that is for whoever sends it to decide.

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::{
    StatusCode,
    header::{HeaderName, HeaderValue},
};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use uuid::Uuid;

use super::{
    Connector, SendError,
    message::{Message, Reporting},
};
use crate::{
    keyring::Keyring,
    outside::call::{Call, CallError, Reply, Service},
    runs::model::{NewRun, RunRow},
    uploads::token::return_url,
};

const CLIENT_ID: HeaderName = HeaderName::from_static("x-rh-cloud-connector-client-id");
const PSK: HeaderName = HeaderName::from_static("x-rh-cloud-connector-psk");
const ORG_ID: HeaderName = HeaderName::from_static("x-rh-cloud-connector-org-id");
/// What all connections are below.
const CONNECTIONS: &str = "/api/cloud-connector/v2/connections";
/// What calls are counted as.
pub const COMPONENT: &str = "cloud-connector";
/// What a message is counted as.
const POST_MESSAGE: &str = "postMessage";
/// What a question is counted as.
const GET_STATUS: &str = "getStatus";

/// Cloud Connector.
pub struct CloudConnector {
    service: Service,
    client_id: HeaderValue,
    psk: HeaderValue,
    keyring: Arc<Keyring>,
    return_url: String,
    interval: u32,
}

/// What Cloud Connector is used with.
pub struct Parts {
    /// Where it is.
    pub service: Service,
    /// What this service is called there.
    pub client_id: String,
    /// The key that goes with it; may be empty.
    pub psk: SecretString,
    /// Makes upload tokens.
    pub keyring: Arc<Keyring>,
    /// Where hosts send their events, without a token.
    pub return_url: String,
    /// Seconds between two uploads of a host.
    pub interval: u32,
}

/// The answer to a message that was taken.
#[derive(Deserialize)]
struct Taken {
    id: Uuid,
}

#[derive(Deserialize)]
struct Connection {
    status: String,
}

impl CloudConnector {
    /// Uses it from the first message on; nothing is asked yet.
    ///
    /// # Errors
    /// When client id or key cannot be headers.
    pub fn new(parts: Parts) -> anyhow::Result<Self> {
        let Parts { service, client_id, psk, keyring, return_url, interval } = parts;
        let mut psk = HeaderValue::from_str(psk.expose_secret())?;
        psk.set_sensitive(true);
        let client_id = HeaderValue::from_str(&client_id)?;
        Ok(Self { service, client_id, psk, keyring, return_url, interval })
    }

    async fn post(
        &self,
        org_id: &str,
        recipient: Uuid,
        message: &Message<'_>,
    ) -> Result<(), SendError> {
        let path = format!("{CONNECTIONS}/{recipient}/message");
        let call = self.service.post_json(POST_MESSAGE, &path, message.body());
        judge(self.authorised(call, org_id)?.send().await)
    }

    fn authorised<'a>(&self, call: Call<'a>, org_id: &str) -> Result<Call<'a>, SendError> {
        let org_id = HeaderValue::from_bytes(org_id.as_bytes());
        let org_id = org_id.map_err(|_| refused("its org_id cannot be told in a header"))?;
        let call = call.header(CLIENT_ID, self.client_id.clone()).header(PSK, self.psk.clone());
        Ok(call.header(ORG_ID, org_id))
    }
}

#[async_trait]
impl Connector for CloudConnector {
    async fn send(&self, run: &NewRun) -> Result<(), SendError> {
        let return_url = return_url(&self.return_url, &self.keyring, run);
        let reporting = Reporting { return_url: &return_url, interval: self.interval };
        self.post(&run.org_id, run.recipient, &Message::start(run, reporting)).await
    }

    async fn cancel(&self, run: &RunRow, principal: &str) -> Result<(), SendError> {
        self.post(&run.org_id, run.recipient, &Message::cancel(run, principal)).await
    }

    async fn is_connected(&self, org_id: &str, recipient: Uuid) -> Result<bool, SendError> {
        let call = self.service.get(GET_STATUS, &format!("{CONNECTIONS}/{recipient}/status"));
        let reply = self.authorised(call, org_id)?.send().await.map_err(lost)?;
        let connection: Connection =
            reply.json_with(StatusCode::OK).map_err(|why| ambiguous(&why))?;
        Ok(connection.status == "connected")
    }
}

/// What became of a message. Only what cannot have been delivered is refused: a 201 that cannot be
/// read was a 201, and behind a 5xx the message may have gone on.
fn judge(answer: Result<Reply, CallError>) -> Result<(), SendError> {
    let reply = answer.map_err(lost)?;
    match reply.status {
        StatusCode::CREATED => {
            let taken: Taken = reply.json().map_err(|why| ambiguous(&why))?;
            tracing::debug!(message.id = %taken.id, "Cloud Connector has taken a message");
            Ok(())
        }
        StatusCode::NOT_FOUND => Err(SendError::NotConnected),
        status if status.is_client_error() => Err(refused(&answered(status))),
        status => Err(ambiguous(&answered(status))),
    }
}

fn lost(error: CallError) -> SendError {
    match error {
        CallError::NotSent(_) => SendError::Refused(format!("Cloud Connector: {error}")),
        CallError::NoAnswer(_) => SendError::Ambiguous(format!("Cloud Connector: {error}")),
    }
}

fn answered(status: StatusCode) -> String {
    format!("an answer with status {}", status.as_u16())
}

fn refused(why: &str) -> SendError {
    SendError::Refused(format!("Cloud Connector: {why}"))
}

fn ambiguous(why: &str) -> SendError {
    SendError::Ambiguous(format!("Cloud Connector: {why}"))
}
