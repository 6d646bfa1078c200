//! The processes of the service over HTTP, for admins.

use axum::{
    extract::State,
    http::{StatusCode, Uri},
};
use dispatcher_wire::{admin::InstanceView, view::Page};

use super::list;
use crate::{
    app::App,
    http::{extract::Admin, json::JsonReply, links, problem::Problem, query::RawQuery},
};

/// `GET …/instances`: the processes that serve, or did a minute ago.
pub async fn list(
    State(app): State<App>,
    _: Admin,
    uri: Uri,
) -> Result<JsonReply<Page<InstanceView>>, Problem> {
    let query = RawQuery::parse(uri.query().unwrap_or_default());
    let page = query
        .page()
        .map_err(|message| Problem::ours(StatusCode::BAD_REQUEST, "invalid_page", message))?;
    let all = list::shown(app.stores.instances.as_ref()).await?;
    let (total, skipped) = (all.len(), usize::try_from(page.offset).unwrap_or(usize::MAX));
    let shown = usize::try_from(page.limit).unwrap_or_default();
    let rows = all.into_iter().skip(skipped).take(shown).collect();
    let total = i64::try_from(total).unwrap_or(i64::MAX);
    Ok(JsonReply(StatusCode::OK, links::page(uri.path(), &query, page, rows, total)))
}
