//! Which organisation an account belongs to (contract §1.5): the tenant translator over HTTP, and
//! its two mocks, by explicit choice only (contract §12).

use std::collections::BTreeMap;

use async_trait::async_trait;
use reqwest::{
    StatusCode,
    header::{ACCEPT, HeaderValue},
};

use super::call::Service;

/// The longest id of an organisation that is believed, in characters.
const LONGEST_ORG_ID: usize = 255;
/// What a look-up is counted as.
const OPERATION: &str = "eans_to_org_ids";

/// Why an account's organisation is not known.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the tenant translator: {0}")]
pub struct TenantError(pub String);

/// Knows which organisation an account belongs to.
#[async_trait]
pub trait Tenants: Send + Sync {
    /// The organisation of an account; none where nobody has it.
    ///
    /// # Errors
    /// When it cannot be found out.
    async fn org_id(&self, account: &str) -> Result<Option<String>, TenantError>;
}

/// The tenant translator over HTTP.
#[derive(Debug)]
pub struct Translator(Service);

impl Translator {
    /// The one at this address.
    #[must_use]
    pub const fn new(service: Service) -> Self {
        Self(service)
    }
}

#[async_trait]
impl Tenants for Translator {
    async fn org_id(&self, account: &str) -> Result<Option<String>, TenantError> {
        // A text always is JSON.
        let body = serde_json::to_vec(&[account]).unwrap_or_default();
        let call = self.0.post_json(OPERATION, "/internal/orgIds", body);
        let call = call.header(ACCEPT, HeaderValue::from_static("application/json"));
        let reply = call.send().await.map_err(|error| TenantError(error.to_string()))?;
        let found: BTreeMap<String, Option<String>> =
            reply.json_with(StatusCode::OK).map_err(TenantError)?;
        checked(found.get(account).cloned().flatten())
    }
}

/// What is no id of an organisation must not become one.
fn checked(org_id: Option<String>) -> Result<Option<String>, TenantError> {
    let length = org_id.as_ref().map(|id| id.chars().count());
    match length {
        Some(length) if !(1..=LONGEST_ORG_ID).contains(&length) => Err(TenantError(format!(
            "an organisation of {length} characters; 1 to {LONGEST_ORG_ID} are allowed"
        ))),
        _ if org_id.as_ref().is_some_and(|id| id.contains(char::is_control)) => {
            Err(TenantError("an organisation with control characters".to_owned()))
        }
        _ => Ok(org_id),
    }
}

/// The mock that makes organisations up: the account and `-test`.
#[derive(Clone, Copy, Debug)]
pub struct DynamicMock;

#[async_trait]
impl Tenants for DynamicMock {
    async fn org_id(&self, account: &str) -> Result<Option<String>, TenantError> {
        let known = !["1234", "abcd"].contains(&account);
        Ok(known.then(|| format!("{account}-test")))
    }
}

/// The mock that knows a few.
#[derive(Clone, Copy, Debug)]
pub struct FixedMock;

/// Accounts and their organisations.
const FIXED: [(&str, &str); 6] = [
    ("901578", "5318290"),
    ("6377882", "12900172"),
    ("7135271", "14656001"),
    ("6089719", "11789772"),
    ("0369233", "3340851"),
    ("010101", "10001"),
];

#[async_trait]
impl Tenants for FixedMock {
    async fn org_id(&self, account: &str) -> Result<Option<String>, TenantError> {
        let found = FIXED.iter().find(|(known, _)| *known == account);
        Ok(found.map(|(_, org_id)| (*org_id).to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn mocks_answer_as_the_contract_says() {
        let org = |org: &str| Ok(Some(org.to_owned()));
        assert_eq!(DynamicMock.org_id("901578").await, org("901578-test"));
        assert_eq!(DynamicMock.org_id("1234").await, Ok(None));
        assert_eq!(DynamicMock.org_id("abcd").await, Ok(None));
        for (account, org_id) in FIXED {
            assert_eq!(FixedMock.org_id(account).await, org(org_id));
        }
        assert_eq!(FixedMock.org_id("901579").await, Ok(None));
    }

    #[test]
    fn what_is_no_organisation_is_none() {
        let checked = |org: &str| checked(Some(org.to_owned()));
        assert!(checked("5318290").is_ok() && checked("äöüäöüäöüä").is_ok());
        for bad in ["", &"1".repeat(256), "a\0b", "a\nb"] {
            assert!(checked(bad).is_err(), "{bad:?}");
        }
        assert_eq!(super::checked(None), Ok(None));
    }
}
