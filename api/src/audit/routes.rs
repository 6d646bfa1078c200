//! The audit log over HTTP.

use axum::{
    extract::State,
    http::{StatusCode, Uri},
};
use dispatcher_wire::{admin::AuditView, view::Page};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{list, model::AuditQuery};
use crate::{
    app::App,
    http::{extract::Admin, json::JsonReply, links, problem::Problem, query::RawQuery},
};

/// `GET …/audit?action=&principal=&since=&org_id=&limit=&offset=`: newest first.
pub async fn list(
    State(app): State<App>,
    admin: Admin,
    uri: Uri,
) -> Result<JsonReply<Page<AuditView>>, Problem> {
    let query = RawQuery::parse(uri.query().unwrap_or_default());
    let params = query.page().map_err(|message| bad("invalid_page", message))?;
    let wanted = AuditQuery {
        scope: admin.principal.org,
        org_id: single(&query, "org_id")?,
        action: single(&query, "action")?,
        principal: single(&query, "principal")?,
        since: since(&query)?,
        limit: params.limit,
        offset: params.offset,
    };
    let found = list::page(app.stores.audit.as_ref(), &wanted).await?;
    let page = links::page(uri.path(), &query, params, found.rows, found.total);
    Ok(JsonReply(StatusCode::OK, page))
}

/// The value of a parameter that is given once at most; an empty one counts as absent.
fn single(query: &RawQuery, name: &str) -> Result<Option<String>, Problem> {
    match query.values(name).collect::<Vec<_>>().as_slice() {
        [] | [""] => Ok(None),
        [value] => Ok(Some((*value).to_owned())),
        _ => Err(bad("invalid_parameter", format!("{name} is given more than once"))),
    }
}

fn since(query: &RawQuery) -> Result<Option<OffsetDateTime>, Problem> {
    let Some(text) = single(query, "since")? else { return Ok(None) };
    let at = OffsetDateTime::parse(&text, &Rfc3339).map_err(|_| {
        let message = format!("since={text:?} is not a time; allowed: 2026-01-31T12:00:00Z");
        bad("invalid_since", message)
    })?;
    Ok(Some(at))
}

fn bad(code: &'static str, message: String) -> Problem {
    Problem::ours(StatusCode::BAD_REQUEST, code, message)
}
