//! The body of a contract route, and the identity of any kind that it comes with: the body is checked
//! first, the identity second, and an empty body only fails after both. No key is asked for.

use axum::{
    extract::{FromRequest, Request},
    http::HeaderValue,
};

use super::{IDENTITY_HEADER, contract_body::Checked, ways};
use crate::{
    app::App,
    auth::identity::Identity,
    http::{problem::Problem, schema::bodies::ContractBody},
};

/// Validated body and whoever a trusted gateway names.
#[derive(Clone, Debug)]
pub struct IdentityJson<T> {
    /// Who it is.
    pub identity: Identity,
    /// The same as it came, for services that are asked on their behalf.
    pub header: HeaderValue,
    /// The body.
    pub value: T,
}

impl<T: ContractBody> FromRequest<App> for IdentityJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &App) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let most = app.settings.http.max_body;
        let checked = Checked::<T>::read(&parts.headers, body, most).await?;
        let identity = ways::identity_of_any_kind(app, &parts)?;
        let header = parts.headers.get(IDENTITY_HEADER).cloned();
        let header = header.unwrap_or_else(|| HeaderValue::from_static(""));
        Ok(Self { identity, header, value: checked.value()? })
    }
}
