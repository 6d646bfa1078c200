//! Who calls a route under the public base path, and for which organisation: a service by its key,
//! or a person by a token of the SSO server or the identity header of a trusted gateway.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, StatusCode, request::Parts},
};

use super::{require, ways};
use crate::{
    app::App,
    auth::principal::{OrgScope, Principal, Role},
    http::problem::Problem,
};

/// Names the organisation that a service with a key for all of them acts for.
pub const ORG_HEADER: &str = "x-dispatcher-org";
/// Says who somebody is, when a trusted gateway sends it.
pub const IDENTITY_HEADER: &str = "x-rh-identity";
/// The longest organisation id, in characters.
const MAX_ORG_ID: usize = 10;

/// Somebody who may look at what an organisation has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OrgCaller {
    /// Who it is.
    pub principal: Principal,
    /// The organisation acted for.
    pub org_id: String,
}

/// Somebody who may also change it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OrgOperator(
    /// Who it is, and for which organisation.
    pub OrgCaller,
);

impl FromRequestParts<App> for OrgCaller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let (principal, org_id) = if ways::says_by_authorization(parts) {
            let principal = ways::by_authorization(app, parts).await?.principal;
            let org_id = org_meant(&principal, &parts.headers)?;
            (principal, org_id)
        } else {
            let principal = ways::by_identity(app, parts)?.principal;
            let org_id = match &principal.org {
                OrgScope::One(own) => own.clone(),
                OrgScope::All => String::new(),
            };
            (principal, org_id)
        };
        Ok(Self { principal, org_id })
    }
}

impl FromRequestParts<App> for OrgOperator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let caller = OrgCaller::from_request_parts(parts, app).await?;
        require(&caller.principal, Role::Operator)?;
        Ok(Self(caller))
    }
}

fn org_meant(principal: &Principal, headers: &HeaderMap) -> Result<String, Problem> {
    let named = headers.get(ORG_HEADER).map(|value| value.to_str().unwrap_or_default());
    match (&principal.org, named) {
        (OrgScope::One(own), None) => Ok(own.clone()),
        (OrgScope::One(own), Some(named)) if own == named => Ok(own.clone()),
        (OrgScope::One(own), Some(_)) => Err(Problem::ours(
            StatusCode::FORBIDDEN,
            "org_forbidden",
            format!("you act for organisation {own} only; leave X-Dispatcher-Org out"),
        )),
        (OrgScope::All, Some(named))
            if !named.is_empty() && named.chars().count() <= MAX_ORG_ID =>
        {
            Ok(named.to_owned())
        }
        (OrgScope::All, _) => Err(Problem::ours(
            StatusCode::BAD_REQUEST,
            "org_required",
            "this key acts for every organisation; name one in the header X-Dispatcher-Org \
             (1 to 10 characters)",
        )),
    }
}
