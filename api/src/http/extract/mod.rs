//! Extractors: who calls, for which organisation, with which body. A handler that takes one of
//! them cannot forget the check, because without it there is nothing to work with.
//!
//! [`PskJson`], [`IdentityJson`] and [`OnBehalf`] for the contract's internal routes, [`OrgCaller`] and [`OrgOperator`] for everything
//! under the public base path, [`RunReader`] where runs are shown, [`Admin`] for those who decide who gets in, [`Worker`] for the routes
//! of workers, [`Registrant`] for one that is none yet, [`AnyPrincipal`] for whoever that is;
//! [`Standing`] beside a caller whose answer goes on; [`JsonBody`] for bodies of ours, [`Segments`] for paths.

mod admin;
mod any;
mod caller;
mod contract_body;
mod identity_json;
mod json_body;
mod on_behalf;
mod psk_json;
mod run_reader;
mod segments;
mod standing;
mod ways;
mod worker;

pub use admin::Admin;
pub use any::AnyPrincipal;
pub use caller::{IDENTITY_HEADER, ORG_HEADER, OrgCaller, OrgOperator};
pub use identity_json::IdentityJson;
pub use json_body::JsonBody;
pub use on_behalf::OnBehalf;
pub use psk_json::PskJson;
pub use run_reader::{RunReader, RunScope};
pub use segments::Segments;
pub use standing::Standing;
pub use ways::{Outcome, note};
pub use worker::{Registrant, Worker};

use axum::http::{HeaderMap, StatusCode, header};

use super::problem::Problem;
use crate::auth::principal::{Principal, Role};

/// What stands for a header that is no text: malformed, whatever it was meant to be.
const NO_TEXT: &str = "?";

/// The `Authorization` header as text; an empty one is none.
fn authorization(headers: &HeaderMap) -> Option<&str> {
    let header = headers.get(header::AUTHORIZATION).filter(|value| !value.is_empty());
    header.map(|value| value.to_str().unwrap_or(NO_TEXT))
}

/// Refuses whoever is less than this.
fn require(principal: &Principal, least: Role) -> Result<(), Problem> {
    if principal.role >= least {
        return Ok(());
    }
    let (least, own) = (least.as_str(), principal.role.as_str());
    let message = format!(
        "this needs the role {least}, and this account has the role {own}; ask for it, or use \
         another account"
    );
    Err(Problem::ours(StatusCode::FORBIDDEN, "role_required", message))
}
