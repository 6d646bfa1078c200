//! The variable parts of a path. One that is no text cannot be the name of anything.

use axum::{
    extract::{FromRequestParts, Path},
    http::request::Parts,
};
use serde::de::DeserializeOwned;

use crate::{app::App, http::problem::Problem};

/// The variable parts of a path; 404 where they are not UTF-8.
#[derive(Clone, Debug)]
pub struct Segments<T>(
    /// One text, or a tuple of them.
    pub T,
);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for Segments<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let Path(segments) = Path::from_request_parts(parts, app)
            .await
            .map_err(|_| Problem::not_found("path_not_text", "the path is not valid UTF-8"))?;
        Ok(Self(segments))
    }
}
