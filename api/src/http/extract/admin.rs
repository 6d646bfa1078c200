//! Somebody who may change who gets in: an admin of one organisation, or of all of them.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, StatusCode, request::Parts},
};

use super::{ORG_HEADER, OrgCaller, ways};
use crate::{
    app::App,
    auth::principal::{OrgScope, Principal, Role},
    http::problem::Problem,
};

/// An admin. One of all organisations need not name one, and may.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Admin {
    /// Who it is.
    pub principal: Principal,
    /// The organisation that was named, or the only one there is for this admin.
    pub org_id: Option<String>,
}

impl FromRequestParts<App> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let caller = if names_org(&parts.headers) || !ways::says_by_authorization(parts) {
            let OrgCaller { principal, org_id } = OrgCaller::from_request_parts(parts, app).await?;
            Self { principal, org_id: Some(org_id) }
        } else {
            let principal = ways::by_authorization(app, parts).await?.principal;
            let org_id = match &principal.org {
                OrgScope::All => None,
                OrgScope::One(own) => Some(own.clone()),
            };
            Self { principal, org_id }
        };
        if caller.principal.role < Role::Admin {
            let message = "this needs the role admin; ask an admin, or create a key for one on the \
                           service's host: dispatcher-api keys create --role admin";
            return Err(Problem::ours(StatusCode::FORBIDDEN, "role_required", message));
        }
        Ok(caller)
    }
}

fn names_org(headers: &HeaderMap) -> bool {
    headers.contains_key(ORG_HEADER)
}
