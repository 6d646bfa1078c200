//! Anybody who can say who they are, workers too.

use axum::{
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
};

use super::{IDENTITY_HEADER, Worker, authorization, ways};
use crate::{
    app::App,
    auth::{
        caller::{Caller, Way},
        principal::{Kind, OrgScope, Principal, Role},
        worker_key,
    },
    http::problem::Problem,
};

/// Somebody, by whichever way in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AnyPrincipal(
    /// Who it is, and how that is known.
    pub Caller,
);

impl FromRequestParts<App> for AnyPrincipal {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        if parts.headers.contains_key(IDENTITY_HEADER) {
            return ways::by_identity(app, parts).map(Self);
        }
        let Some(authorization) = authorization(&parts.headers) else {
            let message = "say who you are: Authorization: PSK <key of a service>, or Bearer \
                           <token of the SSO server, or key of a worker>";
            let status = StatusCode::UNAUTHORIZED;
            return Err(Problem::ours(status, "credentials_required", message));
        };
        if worker_key::presented(authorization).is_some() {
            let Worker(worker) = Worker::from_request_parts(parts, app).await?;
            return Ok(Self(Caller {
                principal: Principal {
                    kind: Kind::Worker,
                    id: worker.recipient.to_string(),
                    org: OrgScope::One(worker.org_id),
                    // Whatever a worker may do is on routes of its own.
                    role: Role::Reader,
                },
                way: Way::WorkerKey,
                name: None,
                key_id: None,
                expires_at: None,
            }));
        }
        ways::by_authorization(app, parts).await.map(Self)
    }
}
