//! Who looks at runs, and at which. Without the scope there is no organisation to look into, so that
//! nobody can forget to ask for it.

use axum::{
    extract::FromRequestParts,
    http::{HeaderValue, StatusCode, request::Parts},
};

use super::{IDENTITY_HEADER, OrgCaller};
use crate::{
    app::App,
    auth::{access::AccessError, principal::Kind},
    http::problem::Problem,
};

/// Somebody who may look at runs of an organisation; of which services, its [`RunReader::scope`]
/// says.
#[derive(Clone, Debug)]
pub struct RunReader {
    org_id: String,
    /// Of whoever a gateway vouches for: RBAC is asked about them.
    identity: Option<HeaderValue>,
}

/// Which runs somebody may look at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RunScope {
    /// Their organisation.
    pub org_id: String,
    /// Their services; none named: every one.
    pub services: Vec<String>,
}

impl FromRequestParts<App> for RunReader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let OrgCaller { principal, org_id } = OrgCaller::from_request_parts(parts, app).await?;
        let vouched_for = principal.kind == Kind::Identity;
        let identity = parts.headers.get(IDENTITY_HEADER).filter(|_| vouched_for).cloned();
        Ok(Self { org_id, identity })
    }
}

impl RunReader {
    /// Which runs, on a route of the contract, where the request has been found to be in order.
    ///
    /// # Errors
    /// With the contract's answers.
    pub async fn scope(self, app: &App) -> Result<RunScope, Problem> {
        self.known_scope(app).await.map_err(|error| match error {
            AccessError::Forbidden => {
                Problem::Contract(StatusCode::FORBIDDEN, "Forbidden".to_owned())
            }
            AccessError::Unknown => Problem::Contract(
                StatusCode::SERVICE_UNAVAILABLE,
                "error getting permissions from RBAC".to_owned(),
            ),
        })
    }

    /// The same on a route of ours.
    ///
    /// # Errors
    /// With our own answers.
    pub async fn scope_of_ours(self, app: &App) -> Result<RunScope, Problem> {
        self.known_scope(app).await.map_err(|error| {
            let (status, code) = match error {
                AccessError::Forbidden => (StatusCode::FORBIDDEN, "no_permission"),
                AccessError::Unknown => (StatusCode::SERVICE_UNAVAILABLE, "rbac_unavailable"),
            };
            Problem::ours(status, code, error.to_string())
        })
    }

    async fn known_scope(self, app: &App) -> Result<RunScope, AccessError> {
        let services = match &self.identity {
            Some(identity) => app.run_access.services_for(identity).await?,
            None => Vec::new(),
        };
        Ok(RunScope { org_id: self.org_id, services })
    }
}
