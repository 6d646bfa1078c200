//! Connection status over HTTP, for whoever a gateway vouches for.

use axum::{extract::State, http::StatusCode};
use dispatcher_wire::dispatch::{ConnectionStatus, HostsWithOrg};
use time::OffsetDateTime;

use super::{ConnectionError, Inquiry};
use crate::{
    app::App,
    http::{extract::IdentityJson, json::JsonReply, problem::Problem},
};

/// `POST /internal/v2/connection_status`: whether hosts can be reached, and through which recipients.
pub async fn status(
    State(app): State<App>,
    body: IdentityJson<HostsWithOrg>,
) -> Result<JsonReply<Vec<ConnectionStatus>>, Problem> {
    let (Some(inventory), Some(sources)) = (&app.inventory, &app.sources) else {
        let message = "this needs Inventory and Sources, which are not configured here: set \
                       INVENTORY_CONNECTOR_IMPL and SOURCES_IMPL";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        return Err(Problem::ours(status, "not_configured", message));
    };
    let inquiry = Inquiry {
        inventory: inventory.as_ref(),
        sources: sources.as_ref(),
        connector: app.connector.as_deref(),
        recipients: app.stores.recipients.as_ref(),
        identity: &body.header,
        own_org: &body.identity.org_id,
        now: OffsetDateTime::now_utc(),
    };
    let answer = inquiry.answer(body.value).await;
    answer.map(|answer| JsonReply(StatusCode::OK, answer)).map_err(|error| match error {
        ConnectionError::Store(error) => error.into(),
        ConnectionError::Inventory(_) => {
            tracing::error!(%error, "hosts are not known");
            Problem::Empty(StatusCode::BAD_REQUEST)
        }
        ConnectionError::Connector(..) => {
            // Logged as any failure; the answer has no body.
            drop(Problem::internal("the connector failed", &error));
            Problem::Empty(StatusCode::INTERNAL_SERVER_ERROR)
        }
    })
}
