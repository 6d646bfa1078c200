//! Extractors: who calls, for which organisation, with which body. A handler that takes one of
//! them cannot forget the check, because without it there is nothing to work with.
//!
//! [`PskJson`] for the contract's internal routes, [`OrgCaller`] and [`OrgOperator`] for everything
//! under the public base path, [`Worker`] for the routes of workers, [`Registrant`] for one that is none yet,
//! [`JsonBody`] for bodies of ours, [`Segments`] for paths.

mod admin;
mod caller;
mod json_body;
mod psk_json;
mod segments;
mod worker;

pub use admin::Admin;
pub use caller::{IDENTITY_HEADER, ORG_HEADER, OrgCaller, OrgOperator};
pub use json_body::JsonBody;
pub use psk_json::PskJson;
pub use segments::Segments;
pub use worker::{Registrant, Worker};

use axum::http::{HeaderMap, StatusCode, header};

use super::problem::Problem;
use crate::{
    app::App,
    auth::{principal::Principal, psk::PskError},
};

/// The `Authorization` header as text; a value that is no text counts as empty, which is malformed.
fn authorization(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap_or_default())
}

/// The service that calls with a pre-shared key, with the contract's answers otherwise.
fn service(app: &App, headers: &HeaderMap) -> Result<Principal, Problem> {
    let found = app.services.authenticate(authorization(headers), &app.keyring);
    found.map_err(|error| {
        let (status, message) = match error {
            PskError::Missing => (StatusCode::UNAUTHORIZED, "Unauthorized"),
            PskError::Malformed => {
                (StatusCode::UNAUTHORIZED, "Unsupported authentication key format")
            }
            PskError::Unknown => (StatusCode::FORBIDDEN, "Forbidden"),
        };
        Problem::Contract(status, message.to_owned())
    })
}
