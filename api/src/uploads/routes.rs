//! Uploads over HTTP: the door that foreign hosts know, and the list for people.

use axum::{
    Extension,
    extract::{
        Multipart, State,
        multipart::{Field, MultipartRejection},
    },
    http::{HeaderMap, StatusCode, Uri},
};
use dispatcher_wire::view::{Page, UploadView};
use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    counting::{self, Kind},
    list,
    receive::{Inbox, ReceiveError, Sender},
    token,
};
use crate::{
    app::App,
    auth::{caller::Way, identity::Identity},
    http::{
        extract::{IDENTITY_HEADER, OrgCaller, Outcome, note},
        json::JsonReply,
        links,
        problem::Problem,
        query::RawQuery,
        source::Source,
    },
    storage::StorageError,
};

/// What a request may carry beside its archive: the frame of its parts, and small parts that other
/// ingress services know.
const MAX_FRAME: u64 = 64 * 1024;
/// The most parts that are looked at.
const MAX_PARTS: usize = 16;
/// The content types of runner events, and of satellite events.
const EVENTS: [&str; 6] = [
    "application/vnd.redhat.playbook.v1+jsonl",
    "application/vnd.redhat.playbook.v1+gzip",
    "application/vnd.redhat.playbook.v1+xz",
    "application/vnd.redhat.playbook-sat.v3+jsonl",
    "application/vnd.redhat.playbook-sat.v3+gzip",
    "application/vnd.redhat.playbook-sat.v3+xz",
];

/// The most that a whole request may take, where its archive may take so much.
#[must_use]
pub fn max_request(max_upload: u64) -> usize {
    usize::try_from(max_upload + MAX_FRAME).unwrap_or(usize::MAX)
}

/// What an upload is answered with.
#[derive(Clone, Debug, Serialize)]
pub struct Received {
    /// The upload's id.
    pub request_id: Uuid,
}

/// `POST /api/ingress/v1/upload`: takes an archive of job events. Whoever sends has a run's token,
/// or an identity that a trusted gateway vouches for.
pub async fn receive(
    State(app): State<App>,
    from: Option<Extension<Source>>,
    uri: Uri,
    headers: HeaderMap,
    parts: Result<Multipart, MultipartRejection>,
) -> Result<JsonReply<Received>, Problem> {
    let sender = sender(&app, from.map(|Extension(from)| from), &uri, &headers)?;
    let mut parts = parts.map_err(|error| refused(error.status(), error.body_text()))?;
    for _ in 0..MAX_PARTS {
        let part = parts.next_field().await;
        match part.map_err(|error| refused(error.status(), error.body_text()))? {
            Some(part) if matches!(part.name(), Some("file" | "upload")) => {
                acceptable(&part)?;
                let inbox = Inbox {
                    objects: &app.objects,
                    uploads: app.stores.uploads.as_ref(),
                    wakeups: &app.wakeups,
                    max_size: app.settings.uploads.max_size,
                };
                let request_id = if app.settings.dispatch.is_blocked(&sender.org_id) {
                    inbox.drop_silently(part).await?
                } else {
                    let kind = Kind::claimed(part.content_type());
                    inbox.receive(sender, part).await.inspect_err(|error| {
                        if error.is_about_size() {
                            counting::invalid(kind);
                        }
                    })?
                };
                return Ok(JsonReply(StatusCode::ACCEPTED, Received { request_id }));
            }
            Some(_) => {}
            None => break,
        }
    }
    let message = "the request has no part called file (or upload) with the archive";
    Err(Problem::ours(StatusCode::BAD_REQUEST, "upload_part_missing", message))
}

/// `GET …/uploads`: a page of uploads, newest first.
pub async fn list(
    State(app): State<App>,
    caller: OrgCaller,
    uri: Uri,
) -> Result<JsonReply<Page<UploadView>>, Problem> {
    let query = RawQuery::parse(uri.query().unwrap_or_default());
    let page = query
        .page()
        .map_err(|message| Problem::ours(StatusCode::BAD_REQUEST, "invalid_page", message))?;
    let store = app.stores.uploads.as_ref();
    let found = list::page(store, &caller.org_id, page.limit, page.offset).await?;
    let body = links::page(uri.path(), &query, page, found.rows, found.total);
    Ok(JsonReply(StatusCode::OK, body))
}

/// Who sends. Any kind of identity will do: hosts have one of their own.
fn sender(
    app: &App,
    from: Option<Source>,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Sender, Problem> {
    let query = RawQuery::parse(uri.query().unwrap_or_default());
    let token = query.values("token").next();
    if let Some(token) = token {
        let bearer = token::check(&app.keyring, token, OffsetDateTime::now_utc());
        let outcome = if bearer.is_ok() { Outcome::Accepted } else { Outcome::Refused };
        note(app, from, Way::UploadToken, outcome);
        let bearer = bearer.map_err(|error| unauthorized(error.to_string()))?;
        return Ok(Sender { org_id: bearer.org_id, run_id: Some(bearer.run_id) });
    }
    let header = headers.get(IDENTITY_HEADER).ok_or_else(|| {
        unauthorized("an upload needs the token of its return address, or an identity".to_owned())
    })?;
    let identity = Identity::decode(Some(header.as_bytes()));
    let identity = identity.map_err(|reason| {
        Problem::Plain(StatusCode::BAD_REQUEST, format!("Bad Request: {reason}"))
    })?;
    if identity.org_id.is_empty() {
        return Err(unauthorized("the identity has no organisation".to_owned()));
    }
    Ok(Sender { org_id: identity.org_id, run_id: None })
}

/// Whether a part claims to be something that is taken. The content itself is judged later, by its
/// first bytes and its first line.
fn acceptable(part: &Field<'_>) -> Result<(), Problem> {
    let kind = part.content_type().unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.is_empty() || kind == "application/octet-stream" || EVENTS.contains(&kind) {
        return Ok(());
    }
    let allowed = EVENTS.join(", ");
    let message = format!("this content type is not taken; allowed: {allowed}, or none");
    Err(Problem::ours(StatusCode::UNSUPPORTED_MEDIA_TYPE, "upload_type_unsupported", message))
}

fn unauthorized(message: String) -> Problem {
    Problem::ours(StatusCode::UNAUTHORIZED, "upload_unauthorized", message)
}

fn refused(status: StatusCode, message: String) -> Problem {
    let code = if status == StatusCode::PAYLOAD_TOO_LARGE {
        "upload_too_large"
    } else {
        "upload_unreadable"
    };
    Problem::ours(status, code, message)
}

impl From<ReceiveError> for Problem {
    fn from(error: ReceiveError) -> Self {
        let text = error.to_string();
        match error {
            ReceiveError::Empty => refused(StatusCode::BAD_REQUEST, text),
            ReceiveError::Storage(StorageError::TooLarge(most)) => {
                refused(StatusCode::PAYLOAD_TOO_LARGE, format!("an upload may take {most} bytes"))
            }
            ReceiveError::Storage(StorageError::Source(_)) => {
                refused(StatusCode::BAD_REQUEST, format!("the upload did not arrive whole: {text}"))
            }
            ReceiveError::Storage(error) => error.into(),
            ReceiveError::Store(error) => error.into(),
        }
    }
}
