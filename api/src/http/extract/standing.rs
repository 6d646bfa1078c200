//! Whoever gets an answer that goes on: it goes on for as long as they would be let in.

use std::{convert::Infallible, time::Duration};

use axum::{
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
    response::IntoResponse as _,
};

use super::{RunReader, RunScope};
use crate::{app::App, http::problem::Problem};

/// How often is looked where nothing has changed: keys and tokens also end by their time.
const LOOK: Duration = Duration::from_secs(10);

/// What a caller has shown, to be looked at again.
pub struct Standing {
    app: App,
    parts: Parts,
}

impl FromRequestParts<App> for Standing {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Infallible> {
        Ok(Self { app: app.clone(), parts: parts.clone() })
    }
}

impl Standing {
    /// Ends when the caller would be let in no more, or may look at other runs than at the
    /// beginning. Where nobody can tell, the answer goes on.
    pub async fn ended(self, scope: RunScope) {
        let mut states = self.app.auth.feed().subscribe();
        loop {
            // Either way it is looked; who tells of changes lives as long as the app.
            let _ = tokio::time::timeout(LOOK, states.changed()).await;
            match self.scope().await {
                Ok(now) if now == scope => {}
                Ok(_) => return,
                Err(problem) => {
                    let status = problem.into_response().status();
                    if [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status) {
                        return;
                    }
                }
            }
        }
    }

    async fn scope(&self) -> Result<RunScope, Problem> {
        let mut parts = self.parts.clone();
        RunReader::from_request_parts(&mut parts, &self.app).await?.scope(&self.app).await
    }
}
