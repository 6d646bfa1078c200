//! Stored playbooks over HTTP: put and read by names, served by signed addresses.

use axum::{
    body::Body,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use dispatcher_wire::view::{Page, PlaybookView};
use serde::Deserialize;
use time::OffsetDateTime;

use super::{
    address::{Content, sha256_of},
    content::{self, Description},
    list,
    model::is_name,
    put::{NewPlaybook, PutError, Shelf},
};
use crate::{
    app::App,
    audit::model::Actor,
    http::{
        extract::{OrgCaller, OrgOperator, Segments},
        json::JsonReply,
        links,
        problem::{Problem, request_id},
        query::RawQuery,
    },
    storage::StorageError,
};

/// Header of a bundle with the file that is run.
pub const ENTRY_HEADER: &str = "dispatcher-playbook-entry";

/// `PUT …/playbooks/{name}?entry=`: stores a file or a tar bundle under a name.
pub async fn put(
    State(app): State<App>,
    OrgOperator(caller): OrgOperator,
    Segments(name): Segments<String>,
    uri: Uri,
    body: Body,
) -> Result<JsonReply<PlaybookView>, Problem> {
    let query = RawQuery::parse(uri.query().unwrap_or_default());
    let entry = query.values("entry").next().map(str::to_owned);
    let actor = Actor::of(&caller.principal, request_id());
    let new = NewPlaybook { org_id: caller.org_id, name: checked_name(name)?, entry };
    let (playbook, is_new) =
        Shelf::of(&app).put(new, body.into_data_stream(), Some(&actor)).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok(JsonReply(status, list::view(&app.settings.dispatch.public_url, playbook)))
}

/// `GET …/playbooks/{name}`: what a name points at.
pub async fn get(
    State(app): State<App>,
    caller: OrgCaller,
    Segments(name): Segments<String>,
) -> Result<JsonReply<PlaybookView>, Problem> {
    let name = checked_name(name)?;
    let (store, public_url) = (app.stores.playbooks.as_ref(), &app.settings.dispatch.public_url);
    let found = list::one(store, public_url, &caller.org_id, &name).await?;
    let found = found.ok_or_else(|| {
        Problem::not_found("playbook_not_found", format!("no playbook is called {name}"))
    })?;
    Ok(JsonReply(StatusCode::OK, found))
}

/// `GET …/playbooks`: a page of playbooks, by name.
pub async fn list(
    State(app): State<App>,
    caller: OrgCaller,
    uri: Uri,
) -> Result<JsonReply<Page<PlaybookView>>, Problem> {
    let query = RawQuery::parse(uri.query().unwrap_or_default());
    let params = query
        .page()
        .map_err(|message| Problem::ours(StatusCode::BAD_REQUEST, "invalid_page", message))?;
    let (store, public_url) = (app.stores.playbooks.as_ref(), &app.settings.dispatch.public_url);
    let part = (params.limit, params.offset);
    let found = list::page(store, public_url, &caller.org_id, part).await?;
    let page = links::page(uri.path(), &query, params, found.rows, found.total);
    Ok(JsonReply(StatusCode::OK, page))
}

/// What a signed address says beside the content.
#[derive(Debug, Default, Deserialize)]
pub struct Signature {
    /// Until when it holds, Unix time.
    #[serde(default)]
    expires: i64,
    /// The tag.
    #[serde(default)]
    signature: String,
}

/// `GET …/playbook-content/{org}/{sha256}?expires=&signature=`: the content itself. The signature
/// is all the authentication there is; it is checked before anything is looked up.
pub async fn content(
    State(app): State<App>,
    Segments((org_id, sha256)): Segments<(String, String)>,
    signature: Result<Query<Signature>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let signature = signature.map(|Query(signature)| signature).unwrap_or_default();
    let content = sha256_of(&sha256).map(|sha256| Content { org_id, sha256 });
    let content = content.filter(|content| {
        let now = OffsetDateTime::now_utc();
        content.verify(&app.keyring, signature.expires, &signature.signature, now)
    });
    let content = content.ok_or_else(wrong_signature)?;
    let tag = format!("\"{sha256}\"");
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    let Some((description, reading)) = content::open(&app.objects, &content).await? else {
        return Err(Problem::not_found("content_not_found", "this content is not stored"));
    };
    let mut response = Body::from_stream(reading.pieces).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, reading.size.into());
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(header::ETAG, tag);
    }
    describe(headers, &description);
    Ok(response)
}

fn describe(headers: &mut HeaderMap, description: &Description) {
    let entry = description.entry.as_deref();
    let kind = if entry.is_some() { "application/x-tar" } else { "text/yaml" };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    // Entries are plain ASCII, so that they always are header values.
    if let Some(Ok(entry)) = entry.map(HeaderValue::from_str) {
        headers.insert(ENTRY_HEADER, entry);
    }
}

fn checked_name(name: String) -> Result<String, Problem> {
    if is_name(&name) {
        return Ok(name);
    }
    Err(Problem::ours(
        StatusCode::BAD_REQUEST,
        "playbook_name_invalid",
        "a playbook's name has 1 to 128 of A-Z a-z 0-9 . _ - and does not start with a dot",
    ))
}

fn wrong_signature() -> Problem {
    Problem::ours(
        StatusCode::FORBIDDEN,
        "signature_invalid",
        "the signature of this address is missing, wrong or expired; workers get a fresh one when \
         they claim a run",
    )
}

impl From<PutError> for Problem {
    fn from(error: PutError) -> Self {
        let text = error.to_string();
        match error {
            PutError::Refused(_) => Self::ours(StatusCode::BAD_REQUEST, "playbook_invalid", text),
            PutError::OtherEntry(_) => Self::ours(StatusCode::CONFLICT, "other_entry", text),
            PutError::Body(StorageError::TooLarge(most)) => Self::ours(
                StatusCode::PAYLOAD_TOO_LARGE,
                "playbook_too_large",
                format!("a playbook may take {most} bytes"),
            ),
            PutError::Body(StorageError::Source(_)) => Self::ours(
                StatusCode::BAD_REQUEST,
                "body_unreadable",
                format!("the body did not arrive whole: {text}"),
            ),
            PutError::Body(error) | PutError::Storage(error) => error.into(),
            PutError::Failed(_) => Self::internal("a playbook was not stored", &text),
            PutError::Store(error) => error.into(),
        }
    }
}
