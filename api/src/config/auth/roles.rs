//! Roles of the SSO server, and what they are here.

use std::str::FromStr;

/// What a caller may do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SsoRole {
    /// Look.
    Reader,
    /// Look, dispatch, cancel, store playbooks.
    Operator,
    /// Everything.
    Admin,
}

/// Their names and our roles.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RoleMap(
    /// In the order of the setting.
    pub Vec<(String, SsoRole)>,
);

impl FromStr for RoleMap {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let pair = |pair: &str| {
            let (theirs, ours) = pair.trim().rsplit_once('=')?;
            let role = match ours {
                "reader" => SsoRole::Reader,
                "operator" => SsoRole::Operator,
                "admin" => SsoRole::Admin,
                _ => return None,
            };
            (!theirs.is_empty()).then(|| (theirs.to_owned(), role))
        };
        text.split(',').map(|text| pair(text).ok_or(())).collect::<Result<_, ()>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_hold_anything_but_a_comma() {
        let map: RoleMap = "redhat:employees=reader, a=b=operator,root=admin".parse().unwrap();
        let pairs: Vec<_> = map.0.iter().map(|(name, role)| (name.as_str(), *role)).collect();
        let [reader, operator, admin] = [SsoRole::Reader, SsoRole::Operator, SsoRole::Admin];
        assert_eq!(pairs, [("redhat:employees", reader), ("a=b", operator), ("root", admin)]);
        for bad in ["", "a", "a=b", "=admin", "a=admin,"] {
            assert!(bad.parse::<RoleMap>().is_err(), "{bad}");
        }
    }
}
