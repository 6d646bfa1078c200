//! Recipients over HTTP: their status for services, the list for organisations.

use axum::{
    extract::State,
    http::{StatusCode, Uri},
};
use dispatcher_wire::{
    dispatch::{RecipientStatus, RecipientWithOrg},
    view::{Page, RecipientView},
};
use time::OffsetDateTime;

use super::{
    list,
    status::{self, StatusError},
};
use crate::{
    app::App,
    http::{
        extract::{OrgCaller, PskJson},
        json::JsonReply,
        links,
        problem::Problem,
        query::RawQuery,
    },
};

/// `POST /internal/v2/recipients/status`: whether recipients are connected.
pub async fn status(
    State(app): State<App>,
    body: PskJson<Vec<RecipientWithOrg>>,
) -> Result<JsonReply<Vec<RecipientStatus>>, Problem> {
    let store = app.stores.recipients.as_ref();
    let now = OffsetDateTime::now_utc();
    let known =
        status::status(store, app.connector.as_deref(), &body.service, body.value, now).await;
    known.map(|known| JsonReply(StatusCode::OK, known)).map_err(|error| match error {
        StatusError::Store(error) => error.into(),
        StatusError::Connector(..) => {
            // Logged as any failure; the contract's answer has no body.
            drop(Problem::internal("the connector failed", &error));
            Problem::Empty(StatusCode::INTERNAL_SERVER_ERROR)
        }
    })
}

/// `GET …/recipients`: the organisation's recipients.
pub async fn list(
    State(app): State<App>,
    caller: OrgCaller,
    uri: Uri,
) -> Result<JsonReply<Page<RecipientView>>, Problem> {
    let query = RawQuery::parse(uri.query().unwrap_or_default());
    let page = query
        .page()
        .map_err(|message| Problem::ours(StatusCode::BAD_REQUEST, "invalid_page", message))?;
    let store = app.stores.recipients.as_ref();
    let now = OffsetDateTime::now_utc();
    let found = list::list(store, &caller.org_id, page.limit, page.offset, now).await?;
    let body = links::page(uri.path(), &query, page, found.rows, found.total);
    Ok(JsonReply(StatusCode::OK, body))
}
