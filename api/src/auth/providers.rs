//! Where people log in: what a program on their machine has to know to begin, told to anybody who
//! asks, since nobody who asks can be known yet. Nothing here is secret.

use axum::{extract::State, http::StatusCode};
use dispatcher_wire::admin::{LoginProvider, LoginProviders};

use crate::{app::App, config::auth::SsoSettings, http::json::JsonReply};

/// What a token is asked for; the SSO server's own rules add the rest.
const SCOPES: [&str; 1] = ["openid"];

/// `GET …/identity/providers`: the SSO server, if there is one.
pub async fn list(State(app): State<App>) -> JsonReply<LoginProviders> {
    let data = app.settings.auth.sso.iter().map(provider).collect();
    JsonReply(StatusCode::OK, LoginProviders { data })
}

fn provider(sso: &SsoSettings) -> LoginProvider {
    LoginProvider {
        issuers: issuers(sso),
        client_id: sso.client_id.clone(),
        scopes: SCOPES.map(str::to_owned).to_vec(),
    }
}

/// The issuer that is named; else what a realm's can be, since servers differ in their paths.
fn issuers(sso: &SsoSettings) -> Vec<String> {
    match (&sso.server.issuer, &sso.server.realm) {
        (Some(issuer), _) => vec![issuer.clone()],
        (None, Some((url, realm))) => {
            vec![format!("{url}/realms/{realm}"), format!("{url}/auth/realms/{realm}")]
        }
        (None, None) => Vec::new(),
    }
}
