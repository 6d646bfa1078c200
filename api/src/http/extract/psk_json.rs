//! The body and caller of a contract route, in the contract's order: the body is checked first,
//! the key second, and an empty body only fails after both. What the contract does not know comes
//! where the key does: tokens of users, and roles.

use axum::extract::{FromRequest, Request};
use bytes::Bytes;

use super::{contract_body::Checked, require, ways};
use crate::{
    app::App,
    auth::principal::Principal,
    http::{problem::Problem, schema::bodies::ContractBody},
};

/// Validated body and authenticated caller of a contract route: a service, or a user.
#[derive(Clone, Debug)]
pub struct PskJson<T> {
    /// Who calls.
    pub service: Principal,
    /// The body, defaults in place.
    pub value: T,
    /// The body as it came, for idempotency.
    pub raw: Bytes,
}

impl<T: ContractBody> FromRequest<App> for PskJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let most = app.settings.http.max_body;
        let checked = Checked::<T>::read(&parts.headers, body, most).await?;
        let service = ways::by_authorization(app, &parts).await?.principal;
        require(&service, T::LEAST)?;
        let raw = checked.raw.clone();
        Ok(Self { service, value: checked.value()?, raw })
    }
}
