//! RBAC: which permissions somebody has in this application (contract §1.2), and its mock (§12).

use async_trait::async_trait;
use reqwest::{StatusCode, header::HeaderValue};
use serde::Deserialize;
use serde_json::Value;

use super::call::Service;
use crate::auth::permissions::{APPLICATION, Permission};

/// Where permissions are asked for.
const PATH: &str = "/api/rbac/v1/access/?application=";

/// Knows permissions.
#[async_trait]
pub trait Rbac: Send + Sync {
    /// All permissions of whoever an identity header names.
    ///
    /// # Errors
    /// Why they are not known.
    async fn permissions(&self, identity: &HeaderValue) -> Result<Vec<Permission>, String>;
}

/// RBAC over HTTP.
#[derive(Clone, Debug)]
pub struct RbacClient(
    /// Where it is.
    pub Service,
);

/// Everybody may read runs of three services.
#[derive(Clone, Copy, Debug)]
pub struct MockRbac;

#[derive(Deserialize)]
struct Page {
    links: Option<Links>,
    data: Vec<Permission>,
}

#[derive(Deserialize)]
struct Links {
    next: Option<Value>,
}

#[async_trait]
impl Rbac for RbacClient {
    async fn permissions(&self, identity: &HeaderValue) -> Result<Vec<Permission>, String> {
        let path = format!("{PATH}{APPLICATION}");
        let call = self.0.get("getPermissions", &path).internal_id().identity(identity);
        let reply = call.send().await.map_err(|error| error.to_string())?;
        let Page { links, data } = reply.json_with(StatusCode::OK)?;
        if links.is_some_and(|links| links.next.is_some()) {
            return Err(format!("more permissions than one page, which has {}", data.len()));
        }
        Ok(data)
    }
}

#[async_trait]
impl Rbac for MockRbac {
    async fn permissions(&self, _identity: &HeaderValue) -> Result<Vec<Permission>, String> {
        Ok([("remediations", true), ("config_manager", true), ("test", false)]
            .map(|(service, as_list)| Permission::to_read_runs_of(service, as_list))
            .into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::permissions::{Verdict, judge};

    #[tokio::test]
    async fn the_mock_grants_three_services() {
        let permissions = MockRbac.permissions(&HeaderValue::from_static("")).await.unwrap();
        let services = ["config_manager", "remediations", "test"].map(str::to_owned).to_vec();
        assert_eq!(judge(&permissions), Ok(Verdict::RunsOf(services)));
    }
}
