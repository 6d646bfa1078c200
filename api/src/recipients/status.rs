//! Whether recipients are connected: by presence where they are registered, else by the connector.

use dispatcher_wire::dispatch::{RecipientStatus, RecipientWithOrg};
use futures_util::{StreamExt, TryStreamExt, stream};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::{
    auth::principal::Principal,
    connector::{Connector, SendError},
    store::{RecipientStore, StoreError},
};

/// How many questions of one request are under way at once.
const MAX_CONCURRENT_QUESTIONS: usize = 10;

/// Why there is no answer; one failed question fails them all, as the contract has it.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The connector failed.
    #[error("the status of recipient {0} is not known: {1}")]
    Connector(Uuid, String),
}

/// Answers in the order of the questions. An organisation the caller may not act for has no
/// connected recipients.
///
/// # Errors
/// When the database or the connector fails.
pub async fn status(
    store: &dyn RecipientStore,
    connector: Option<&dyn Connector>,
    principal: &Principal,
    asked: Vec<RecipientWithOrg>,
    now: OffsetDateTime,
) -> Result<Vec<RecipientStatus>, StatusError> {
    let mut ids: Vec<Uuid> = asked.iter().map(|one| one.recipient).collect();
    ids.sort_unstable();
    ids.dedup();
    let registered = store.find(&ids).await?;
    let answers: Vec<_> = asked
        .into_iter()
        .map(|RecipientWithOrg { recipient, org_id }| {
            let own = registered.get(&recipient).filter(|own| own.org_id == org_id);
            let known = match own {
                _ if !principal.may_act_for(&org_id) => Some(false),
                Some(own) => Some(own.is_present(now)),
                None => connector.is_none().then_some(false),
            };
            async move {
                let connected = match (known, connector) {
                    (None, Some(connector)) => ask(connector, &org_id, recipient).await?,
                    (known, _) => known.unwrap_or_default(),
                };
                Ok(RecipientStatus { connected, org_id, recipient })
            }
        })
        .collect();
    stream::iter(answers).buffered(MAX_CONCURRENT_QUESTIONS).try_collect().await
}

async fn ask(
    connector: &dyn Connector,
    org_id: &str,
    recipient: Uuid,
) -> Result<bool, StatusError> {
    match connector.is_connected(org_id, recipient).await {
        Ok(connected) => Ok(connected),
        Err(SendError::NotConnected) => Ok(false),
        Err(SendError::Refused(reason) | SendError::Ambiguous(reason)) => {
            Err(StatusError::Connector(recipient, reason))
        }
    }
}
