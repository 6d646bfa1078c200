//! `GET …/identity`: who the caller is to this service, and by which proof.

use axum::{extract::State, http::StatusCode};
use dispatcher_wire::view::{IdentityAnswer, IdentityView};
use uuid::Uuid;

use super::{
    caller::Caller,
    principal::{Kind, OrgScope},
};
use crate::{
    app::App,
    events::model::timestamp,
    http::{extract::AnyPrincipal, json::JsonReply, problem::Problem},
};

/// What a worker's role is called: it may do what is on its own routes, and nothing else.
const WORKER_ROLE: &str = "worker";

/// `GET /api/v1/identity`, and the same below the public path.
pub async fn identity(
    State(app): State<App>,
    AnyPrincipal(caller): AnyPrincipal,
) -> Result<JsonReply<IdentityAnswer>, Problem> {
    let name = match caller.principal.kind {
        Kind::Worker => recipient_name(&app, &caller.principal.id).await?,
        _ => caller.name.clone(),
    };
    let last = match caller.noted_as() {
        Some((kind, id)) => {
            let times = app.stores.last_auth.last_auth(kind, &[id.to_owned()]).await?;
            times.get(id).copied().map(timestamp)
        }
        None => None,
    };
    Ok(JsonReply(StatusCode::OK, IdentityAnswer { identity: view(caller, name, last) }))
}

async fn recipient_name(app: &App, id: &str) -> Result<Option<String>, Problem> {
    let Ok(id) = Uuid::try_parse(id) else { return Ok(None) };
    let found = app.stores.recipients.find(&[id]).await?.remove(&id);
    Ok(found.map(|recipient| recipient.name))
}

fn view(caller: Caller, name: Option<String>, last_auth_at: Option<String>) -> IdentityView {
    let Caller { principal, way, key_id, expires_at, .. } = caller;
    let role = match principal.kind {
        Kind::Worker => WORKER_ROLE,
        _ => principal.role.as_str(),
    };
    IdentityView {
        kind: principal.kind.as_str().to_owned(),
        id: principal.id,
        name,
        org_id: match principal.org {
            OrgScope::All => None,
            OrgScope::One(org_id) => Some(org_id),
        },
        role: role.to_owned(),
        way: way.as_str().to_owned(),
        key_id,
        expires_at: expires_at.map(timestamp),
        last_auth_at,
    }
}
