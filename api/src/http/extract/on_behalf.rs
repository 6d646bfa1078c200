//! A service that looks on behalf of somebody: its key first, then the identity of any kind that it
//! passes on (contract §1.2). Which organisation is looked into, the identity says; a key for one
//! organisation only looks into that one.

use axum::{
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
};

use super::{require, ways};
use crate::{app::App, auth::principal::Role, http::problem::Problem};

/// The organisation that is looked into.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OnBehalf(
    /// Its id.
    pub String,
);

impl FromRequestParts<App> for OnBehalf {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let service = ways::by_authorization(app, parts).await?.principal;
        require(&service, Role::Reader)?;
        let org_id = ways::identity_of_any_kind(app, parts)?.org_id;
        // Kinds without an organisation see nothing, as the original answers them.
        if org_id.is_empty() {
            return Err(Problem::Empty(StatusCode::FORBIDDEN));
        }
        if !service.may_act_for(&org_id) {
            let message = format!("this key does not act for organisation {org_id:?}");
            return Err(Problem::ours(StatusCode::FORBIDDEN, "org_forbidden", message));
        }
        Ok(Self(org_id))
    }
}
