//! Who calls a route under the public base path, and for which organisation: a service by its key,
//! or a person by the identity header of a trusted gateway.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, StatusCode, header, request::Parts},
};

use super::service;
use crate::{
    app::App,
    auth::{
        identity::Identity,
        principal::{OrgScope, Principal, Role},
    },
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
    /// Only runs of these services; empty means every one.
    pub services: Vec<String>,
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
        let headers = &parts.headers;
        // The identity is what existing clients are known by here, whatever else their gateway
        // passes on; that of a peer which is not trusted has been dropped.
        let by_key =
            headers.contains_key(header::AUTHORIZATION) && !headers.contains_key(IDENTITY_HEADER);
        let (principal, org_id) = if by_key {
            let principal = service(app, headers)?;
            let org_id = org_of_service(&principal, headers)?;
            (principal, org_id)
        } else {
            identity(headers)?
        };
        Ok(Self { principal, org_id, services: Vec::new() })
    }
}

impl FromRequestParts<App> for OrgOperator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let caller = OrgCaller::from_request_parts(parts, app).await?;
        if caller.principal.role < Role::Operator {
            let message = "this needs the role operator; ask for it, or use another account";
            return Err(Problem::ours(StatusCode::FORBIDDEN, "role_required", message));
        }
        Ok(Self(caller))
    }
}

fn identity(headers: &HeaderMap) -> Result<(Principal, String), Problem> {
    let header = headers.get(IDENTITY_HEADER).map(|value| value.as_bytes());
    let identity = Identity::decode(header).map_err(|reason| {
        Problem::Plain(StatusCode::BAD_REQUEST, format!("Bad Request: {reason}"))
    })?;
    let org_id = identity.org_id.clone();
    let principal = identity.into_principal();
    let principal = principal.map_err(|text| Problem::Plain(StatusCode::FORBIDDEN, text))?;
    Ok((principal, org_id))
}

fn org_of_service(principal: &Principal, headers: &HeaderMap) -> Result<String, Problem> {
    let named = headers.get(ORG_HEADER).map(|value| value.to_str().unwrap_or_default());
    match (&principal.org, named) {
        (OrgScope::One(own), None) => Ok(own.clone()),
        (OrgScope::One(own), Some(named)) if own == named => Ok(own.clone()),
        (OrgScope::One(own), Some(_)) => Err(Problem::ours(
            StatusCode::FORBIDDEN,
            "org_forbidden",
            format!("this key acts for organisation {own} only; leave X-Dispatcher-Org out"),
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
