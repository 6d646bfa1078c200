//! What a genuine token is worth here: organisation, role, name. Pure.

use time::OffsetDateTime;

use super::{SsoError, claims::Claims};
use crate::auth::{
    caller::{Caller, Way},
    principal::{Kind, OrgScope, Principal, Role},
};

/// Where roles and groups stand in a token.
const ROLES: [&str; 3] = ["realm_access.roles", "roles", "groups"];
/// The longest subject and organisation, in bytes.
const MAX_ID: usize = 255;

/// What the settings say of tokens.
#[derive(Clone, Debug, Default)]
pub struct SsoRules {
    /// One of them must be in the audience.
    pub audiences: Vec<String>,
    /// Where the organisation stands; the first that is there counts.
    pub org_claims: Vec<String>,
    /// Roles of the SSO server and what they are here; `None`: everybody is an operator.
    pub roles: Option<Vec<(String, Role)>>,
    /// Its members only look, whatever else they are.
    pub read_only_group: Option<String>,
}

impl SsoRules {
    /// The caller that a token speaks of; its signature, times and audience have been checked.
    ///
    /// # Errors
    /// When it names nobody, no organisation, or no role.
    pub fn caller(&self, claims: &Claims, kid: Option<&str>) -> Result<Caller, SsoError> {
        let id = claims.text("sub").filter(|id| is_usable(id));
        let id = id.ok_or_else(|| SsoError::Claim("sub".to_owned()))?.to_owned();
        let principal = Principal {
            kind: Kind::User,
            id,
            org: OrgScope::One(self.org(claims)?),
            role: self.role(claims)?,
        };
        Ok(Caller {
            principal,
            way: Way::Bearer,
            name: claims
                .text("preferred_username")
                .filter(|name| is_usable(name))
                .map(str::to_owned),
            key_id: kid.map(str::to_owned),
            expires_at: expiry(claims),
        })
    }

    fn org(&self, claims: &Claims) -> Result<String, SsoError> {
        let found = self.org_claims.iter().find_map(|name| claims.at(name));
        let org = found.and_then(|org| match org {
            serde_json::Value::Number(number) => Some(number.to_string()),
            other => other.as_str().map(str::to_owned),
        });
        let missing = || SsoError::NoOrganization(self.org_claims.join(" or "));
        org.filter(|org| is_usable(org)).ok_or_else(missing)
    }

    fn role(&self, claims: &Claims) -> Result<Role, SsoError> {
        let theirs: Vec<&str> = ROLES.into_iter().flat_map(|path| claims.texts(path)).collect();
        if self.read_only_group.as_deref().is_some_and(|group| theirs.contains(&group)) {
            return Ok(Role::Reader);
        }
        let Some(roles) = &self.roles else { return Ok(Role::Operator) };
        let ours = roles.iter().filter(|(name, _)| theirs.contains(&name.as_str()));
        ours.map(|(_, role)| *role).max().ok_or_else(|| {
            let known: Vec<&str> = roles.iter().map(|(name, _)| name.as_str()).collect();
            SsoError::NoRole(known.join(", "))
        })
    }
}

fn is_usable(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_ID && !text.contains(char::is_control)
}

/// When the token ends, as far as there are such times.
fn expiry(claims: &Claims) -> Option<OffsetDateTime> {
    let seconds = claims.at("exp")?;
    #[expect(clippy::cast_possible_truncation, reason = "too large a time is no time, see below")]
    let seconds = seconds.as_i64().or_else(|| seconds.as_f64().map(|seconds| seconds as i64))?;
    OffsetDateTime::from_unix_timestamp(seconds).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rules() -> SsoRules {
        SsoRules {
            org_claims: vec!["organization.id".to_owned(), "org_id".to_owned()],
            read_only_group: Some("employees".to_owned()),
            ..SsoRules::default()
        }
    }

    fn caller(rules: &SsoRules, claims: &Value) -> Result<Caller, SsoError> {
        rules.caller(&serde_json::from_value(claims.clone()).unwrap(), Some("k"))
    }

    #[test]
    fn subject_organisation_and_name_come_from_the_token() {
        let claims = json!({"sub": "s", "organization": {"id": 7}, "org_id": "8", "exp": 60.5,
                            "preferred_username": "jdoe"});
        let found = caller(&rules(), &claims).unwrap();
        assert_eq!(found.principal.org, OrgScope::One("7".to_owned()));
        assert_eq!((found.principal.id.as_str(), found.name.as_deref()), ("s", Some("jdoe")));
        assert_eq!(found.principal.role, Role::Operator);
        assert_eq!(found.expires_at.unwrap().unix_timestamp(), 60);
        let other = caller(&rules(), &json!({"sub": "s", "org_id": "8", "exp": 1e300})).unwrap();
        assert_eq!((other.name, other.expires_at), (None, None));
    }

    #[test]
    fn whoever_has_no_subject_or_organisation_is_told() {
        for claims in [json!({"org_id": "8"}), json!({"sub": "", "org_id": "8"}), json!({"sub": 5})]
        {
            assert_eq!(caller(&rules(), &claims), Err(SsoError::Claim("sub".to_owned())));
        }
        let long = "x".repeat(256);
        for org in [json!(null), json!(""), json!("a\u{0}"), json!(["8"]), json!(long)] {
            let error = caller(&rules(), &json!({"sub": "s", "org_id": org})).unwrap_err();
            assert!(error.to_string().contains("organization.id or org_id"), "{error}");
        }
    }

    #[test]
    fn the_highest_mapped_role_counts_and_the_read_only_group_caps() {
        let map = |pairs: &[(&str, Role)]| {
            Some(pairs.iter().map(|(name, role)| ((*name).to_owned(), *role)).collect())
        };
        let mapped =
            SsoRules { roles: map(&[("ops", Role::Operator), ("root", Role::Admin)]), ..rules() };
        let role = |rules: &SsoRules, more: Value| {
            let mut claims = json!({"sub": "s", "org_id": "8"});
            claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            caller(rules, &claims).map(|caller| caller.principal.role)
        };
        let all = json!({"realm_access": {"roles": ["ops"]}, "groups": ["root"], "roles": "x"});
        assert_eq!(role(&mapped, all), Ok(Role::Admin));
        assert_eq!(role(&mapped, json!({"roles": ["ops"]})), Ok(Role::Operator));
        let employee = json!({"realm_access": {"roles": ["employees", "root"]}});
        for rules in [&mapped, &rules()] {
            assert_eq!(role(rules, employee.clone()), Ok(Role::Reader));
        }
        let error = role(&mapped, json!({"roles": ["other"]})).unwrap_err();
        assert!(matches!(&error, SsoError::NoRole(known) if known == "ops, root"), "{error}");
    }
}
