//! Events over HTTP: consumers get them from the broker; here they are only asked for again.

use axum::{body::Bytes, extract::State, http::StatusCode};
use time::OffsetDateTime;

use super::read::{ReadAnswer, ReadRequest, read};
use crate::{
    app::App,
    audit::model::Actor,
    auth::principal::{Kind, Role},
    http::{
        extract::OrgOperator,
        json::JsonReply,
        problem::{Problem, request_id},
    },
};

/// `POST …/events/read`: tells consumers of runs of the organisation again, a bounded number a
/// request. For services and admins.
pub async fn read_again(
    State(app): State<App>,
    OrgOperator(caller): OrgOperator,
    body: Bytes,
) -> Result<JsonReply<ReadAnswer>, Problem> {
    if caller.principal.kind != Kind::Service && caller.principal.role < Role::Admin {
        let message = "this needs the role admin, or the key of a service";
        return Err(Problem::ours(StatusCode::FORBIDDEN, "role_required", message));
    }
    let invalid = |message: String| Problem::ours(StatusCode::BAD_REQUEST, "invalid_read", message);
    let request: ReadRequest = if body.is_empty() {
        ReadRequest::default()
    } else {
        serde_json::from_slice(&body)
            .map_err(|error| invalid(format!("the body is not a request for events: {error}")))?
    };
    let reading = request.understand(Some(caller.org_id)).map_err(invalid)?;
    // Before the first event, and before the first of several commits.
    let now = OffsetDateTime::now_utc().truncate_to_microsecond();
    let actor = Actor::of(&caller.principal, request_id());
    app.stores.audit.note(&[reading.asked_by(&actor, now)]).await?;
    let page = read(app.stores.events.as_ref(), &app.wakeups, &reading).await?;
    tracing::info!(
        principal = caller.principal.id,
        runs = page.runs,
        run_hosts = page.run_hosts,
        "events are told again"
    );
    Ok(JsonReply(StatusCode::OK, page.into()))
}
