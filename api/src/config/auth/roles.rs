//! Roles of the SSO server, and what they are here.

use std::{fmt, str::FromStr};

/// What a caller may do.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum SsoRole {
    /// Look.
    Reader,
    /// Look, dispatch, cancel, store playbooks.
    Operator,
    /// Everything.
    Admin,
}

impl SsoRole {
    const NAMES: [(&str, Self); 3] =
        [("reader", Self::Reader), ("operator", Self::Operator), ("admin", Self::Admin)];
}

/// Their names and our roles.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RoleMap(Vec<(String, SsoRole)>);

impl RoleMap {
    /// The highest role that any of these names gives.
    #[must_use]
    pub fn highest<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> Option<SsoRole> {
        let role_of = |name| self.0.iter().filter(move |(theirs, _)| *theirs == name);
        names.into_iter().flat_map(role_of).map(|(_, role)| *role).max()
    }
}

impl Default for RoleMap {
    fn default() -> Self {
        let own = |(name, role): (&str, SsoRole)| (format!("dispatcher-{name}"), role);
        Self(SsoRole::NAMES.into_iter().map(own).collect())
    }
}

impl FromStr for RoleMap {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let pair = |pair: &str| {
            let (theirs, ours) = pair.trim().rsplit_once('=')?;
            let role = SsoRole::NAMES.iter().find(|(name, _)| *name == ours)?.1;
            (!theirs.is_empty()).then(|| (theirs.to_owned(), role))
        };
        text.split(',').map(|text| pair(text).ok_or(())).collect::<Result<_, ()>>().map(Self)
    }
}

impl fmt::Display for RoleMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ours = |role| SsoRole::NAMES.iter().find(|(_, known)| *known == role);
        let pair = |(theirs, role): &(String, SsoRole)| {
            format!("{theirs}={}", ours(*role).map_or("", |(name, _)| name))
        };
        f.write_str(&self.0.iter().map(pair).collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_role_counts_and_maps_round_trip() {
        let text = "redhat:employees=reader,ops=operator,root=admin";
        let map: RoleMap = text.parse().unwrap();
        assert_eq!(map.to_string(), text);
        assert_eq!(map.highest(["x", "redhat:employees", "ops"]), Some(SsoRole::Operator));
        assert_eq!(map.highest(["x"]), None);
        assert_eq!(RoleMap::default().highest(["dispatcher-admin"]), Some(SsoRole::Admin));
        for bad in ["", "a", "a=b", "=admin", "a=admin,"] {
            assert!(bad.parse::<RoleMap>().is_err(), "{bad}");
        }
    }
}
