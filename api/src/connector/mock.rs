//! The mock of Cloud Connector, by explicit choice only: it accepts runs and delivers nothing.
//! Three recipients and one pair answer otherwise, as callers' tests of the original expect
//! (contract §12).

use async_trait::async_trait;
use uuid::{Uuid, uuid};

use super::{Connector, SendError};
use crate::runs::model::{NewRun, RunRow};

const NOT_CONNECTED: Uuid = uuid!("b5fbb740-5590-45a4-8240-89192dc49199");
const TIMES_OUT: Uuid = uuid!("b31955fb-3064-4f56-ae44-a1c488a28587");
const ONE_SATELLITE_ONLY: Uuid = uuid!("9200e4a3-c97c-4021-9856-82fa4673e8d2");
const THAT_SATELLITE: Uuid = uuid!("9274c274-a258-5d00-91fe-dbe0f7849cef");
const DISCONNECTED: (&str, Uuid) = ("5318290", uuid!("411cb203-f8c9-480e-ba20-1efbc74e3a33"));

/// Cloud Connector, mocked.
#[derive(Clone, Copy, Debug, Default)]
pub struct MockConnector;

/// A message to a recipient; `sat_id` as its metadata would carry it.
fn deliver(recipient: Uuid, sat_id: Option<Uuid>) -> Result<(), SendError> {
    match recipient {
        NOT_CONNECTED => Err(SendError::NotConnected),
        TIMES_OUT => Err(SendError::Ambiguous("timeout".to_owned())),
        ONE_SATELLITE_ONLY if sat_id != Some(THAT_SATELLITE) => {
            Err(SendError::Refused("sat_id mismatch".to_owned()))
        }
        _ => Ok(()),
    }
}

#[async_trait]
impl Connector for MockConnector {
    async fn send(&self, run: &NewRun) -> Result<(), SendError> {
        deliver(run.recipient, run.sat_id)
    }

    /// The metadata of a cancellation carries no `sat_id`.
    async fn cancel(&self, run: &RunRow, _principal: &str) -> Result<(), SendError> {
        deliver(run.recipient, None)
    }

    async fn is_connected(&self, org_id: &str, recipient: Uuid) -> Result<bool, SendError> {
        Ok((org_id, recipient) != DISCONNECTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn special_recipients_answer_as_the_contract_says() {
        assert_eq!(deliver(NOT_CONNECTED, None), Err(SendError::NotConnected));
        assert_eq!(deliver(TIMES_OUT, None), Err(SendError::Ambiguous("timeout".to_owned())));
        let mismatch = Err(SendError::Refused("sat_id mismatch".to_owned()));
        assert_eq!(deliver(ONE_SATELLITE_ONLY, None), mismatch);
        assert_eq!(deliver(ONE_SATELLITE_ONLY, Some(NOT_CONNECTED)), mismatch);
        assert_eq!(deliver(ONE_SATELLITE_ONLY, Some(THAT_SATELLITE)), Ok(()));
        assert_eq!(deliver(THAT_SATELLITE, None), Ok(()));
    }

    #[tokio::test]
    async fn one_pair_is_disconnected() {
        let (org_id, recipient) = DISCONNECTED;
        assert_eq!(MockConnector.is_connected(org_id, recipient).await, Ok(false));
        assert_eq!(MockConnector.is_connected("1", recipient).await, Ok(true));
        assert_eq!(MockConnector.is_connected(org_id, NOT_CONNECTED).await, Ok(true));
    }
}
