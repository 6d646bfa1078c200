//! Keys of services, and the rules by which they come and go. Pure.

use time::OffsetDateTime;

use crate::auth::principal::{OrgScope, Role};

/// The most live keys of one service in one organisation: the one in use and its successor.
pub const MOST_LIVE: usize = 2;
/// What ids of keys from settings begin with.
pub const FROM_SETTINGS: &str = "env:";

/// A key of a service, without its secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceKey {
    /// The first characters of the key.
    pub id: String,
    /// The service it belongs to.
    pub service: String,
    /// The only organisation it may act for; `None`: every one.
    pub org_id: Option<String>,
    /// What it may do.
    pub role: Role,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// Kind and name of who made it.
    pub created_by: String,
    /// From then on it is nobody's key.
    pub expires_at: Option<OffsetDateTime>,
    /// When it was revoked.
    pub revoked_at: Option<OffsetDateTime>,
    /// Kind and name of who revoked it.
    pub revoked_by: Option<String>,
}

impl ServiceKey {
    /// Whether it is somebody's key at that time.
    #[must_use]
    pub fn is_live_at(&self, at: OffsetDateTime) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| at < end)
    }

    /// Whether an admin of that scope may see and change it.
    #[must_use]
    pub fn is_visible_to(&self, scope: &OrgScope) -> bool {
        match scope {
            OrgScope::All => true,
            OrgScope::One(own) => self.org_id.as_ref() == Some(own),
        }
    }
}

/// A key to be made.
#[derive(Clone, Debug)]
pub struct NewServiceKey {
    /// What it is; its time of creation decides which others are live.
    pub key: ServiceKey,
    /// The digest of the whole key.
    pub digest: Vec<u8>,
}

/// The key that a new one replaces.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Replaced {
    /// Its id.
    pub id: String,
    /// When it ends; an earlier end of its own stays.
    pub ends_at: OffsetDateTime,
}

/// What the making of a key came to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum KeyMade {
    /// It is there, from this version of the auth state on.
    Made {
        /// The version.
        auth_version: u64,
    },
    /// A key has this id; nothing was changed.
    IdTaken,
    /// The service has these live keys; nothing was changed.
    TooMany(Vec<String>),
    /// The key that was to be replaced is not live; nothing was changed.
    NotLive,
}

/// What stands against a new key beside the live ones of its service and organisation.
#[must_use]
pub fn objection(live: &[String], replaces: Option<&Replaced>) -> Option<KeyMade> {
    if replaces.is_some_and(|old| !live.contains(&old.id)) {
        return Some(KeyMade::NotLive);
    }
    (live.len() >= MOST_LIVE).then(|| KeyMade::TooMany(live.to_vec()))
}

/// What a revocation came to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyRevoked {
    /// The key as it is now.
    pub key: ServiceKey,
    /// The version of the auth state that counts without it.
    pub auth_version: u64,
}

/// Which keys a list shows. Everything is AND-ed; by service, organisation, time and id.
#[derive(Clone, Debug)]
pub struct KeyQuery {
    /// Whose.
    pub scope: OrgScope,
    /// Only those of this service.
    pub service: Option<String>,
    /// Only those that are live at that time.
    pub live_at: Option<OffsetDateTime>,
    /// 1 to 200.
    pub limit: i64,
    /// From 0.
    pub offset: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_are_live_at_most_and_only_a_live_one_is_replaced() {
        let live = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        let old = |id: &str| Replaced { id: id.to_owned(), ends_at: OffsetDateTime::UNIX_EPOCH };
        assert_eq!(objection(&[], None), None);
        assert_eq!(objection(&live(&["a"]), None), None);
        assert_eq!(objection(&live(&["a"]), Some(&old("a"))), None);
        let both = live(&["a", "b"]);
        assert_eq!(objection(&both, None), Some(KeyMade::TooMany(both.clone())));
        assert_eq!(objection(&both, Some(&old("a"))), Some(KeyMade::TooMany(both.clone())));
        assert_eq!(objection(&live(&["a"]), Some(&old("b"))), Some(KeyMade::NotLive));
        assert_eq!(objection(&both, Some(&old("c"))), Some(KeyMade::NotLive));
    }

    #[test]
    fn a_key_lives_until_it_is_revoked_or_its_time_is_over() {
        let at = OffsetDateTime::UNIX_EPOCH;
        let key = ServiceKey {
            id: "abcdefgh".to_owned(),
            service: "tasks".to_owned(),
            org_id: Some("1".to_owned()),
            role: Role::Operator,
            created_at: at,
            created_by: "cli:root".to_owned(),
            expires_at: None,
            revoked_at: None,
            revoked_by: None,
        };
        assert!(key.is_live_at(at));
        let ending = ServiceKey { expires_at: Some(at), ..key.clone() };
        assert!(!ending.is_live_at(at) && ending.is_live_at(at - time::Duration::SECOND));
        assert!(!ServiceKey { revoked_at: Some(at), ..key.clone() }.is_live_at(at));
        assert!(key.is_visible_to(&OrgScope::All));
        assert!(key.is_visible_to(&OrgScope::One("1".to_owned())));
        assert!(!key.is_visible_to(&OrgScope::One("2".to_owned())));
        let of_all = ServiceKey { org_id: None, ..key };
        assert!(!of_all.is_visible_to(&OrgScope::One("1".to_owned())));
    }
}
