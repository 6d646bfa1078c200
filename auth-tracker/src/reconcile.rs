//! Makes one state of what the sources said and what was known before. Pure.
//!
//! A source that failed says nothing, and its last part stays with the time of its last
//! confirmation. Nothing that has expired is handed on.

use time::OffsetDateTime;

use crate::state::{AuthState, ServiceKey, SsoKey};

/// What the sources said this time; `None` where one failed or was not asked.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// The database.
    pub keys: Option<KeysSaid>,
    /// The SSO server.
    pub sso: Option<Fetched>,
}

/// What the database said about keys of services.
#[derive(Clone, Debug, PartialEq)]
pub enum KeysSaid {
    /// That they are those of the last time.
    Same(OffsetDateTime),
    /// All of them.
    All {
        /// The version they have.
        version: u64,
        /// The keys.
        keys: Vec<ServiceKey>,
        /// When it said so.
        at: OffsetDateTime,
    },
}

/// What the SSO server said.
#[derive(Clone, Debug, PartialEq)]
pub struct Fetched {
    /// Its usable keys.
    pub keys: Vec<SsoKey>,
    /// What `iss` of its tokens may be.
    pub issuers: Vec<String>,
    /// When it said so; `None` for what was configured.
    pub at: Option<OffsetDateTime>,
}

/// What came out.
#[derive(Clone, Debug, PartialEq)]
pub struct Reconciled {
    /// The state now.
    pub state: AuthState,
    /// Whether other callers are let in than before, or the version is another.
    pub changed: bool,
}

/// The state after the sources have spoken.
#[must_use]
pub fn reconcile(last: &AuthState, said: Said, now: OffsetDateTime) -> Reconciled {
    let mut state = last.clone();
    match said.keys {
        Some(KeysSaid::All { version, keys, at }) => {
            state.auth_version = version;
            state.service_keys = keys;
            state.keys_confirmed_at = Some(at);
        }
        Some(KeysSaid::Same(at)) => state.keys_confirmed_at = Some(at),
        None => {}
    }
    // What was configured never replaces what was fetched.
    let configured = |fetched: &Fetched| fetched.at.is_none() && last.sso_fetched_at.is_some();
    if let Some(fetched) = said.sso.filter(|fetched| !configured(fetched)) {
        state.sso_keys = fetched.keys;
        state.sso_issuers = fetched.issuers;
        state.sso_fetched_at = fetched.at;
    }
    state.service_keys.retain(|key| is_live(key, now));
    state.service_keys.sort_by(|one, other| one.id.cmp(&other.id));
    let changed = !state.same_keys(last);
    Reconciled { state, changed }
}

/// Two keys that are one and the same: nobody could tell which of the two is calling.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Duplicate {
    /// The id of the key that counts, from the database.
    pub kept: String,
    /// The id of the key that does not, from the settings.
    pub dropped: String,
}

/// A state with the keys that this process's settings name. A key of the settings that is in the
/// database too counts as the one in the database, since that one can be revoked.
#[must_use]
pub fn with_settings(
    mut state: AuthState,
    settings: &[ServiceKey],
    now: OffsetDateTime,
) -> (AuthState, Vec<Duplicate>) {
    let mut duplicates = Vec::new();
    state.service_keys.retain(|key| is_live(key, now));
    for key in settings.iter().filter(|key| is_live(key, now)) {
        match state.service_keys.iter().find(|known| known.digest == key.digest) {
            Some(known) if known.id == key.id => {}
            Some(known) => {
                duplicates.push(Duplicate { kept: known.id.clone(), dropped: key.id.clone() });
            }
            None => state.service_keys.push(key.clone()),
        }
    }
    (state, duplicates)
}

fn is_live(key: &ServiceKey, now: OffsetDateTime) -> bool {
    key.expires_at.is_none_or(|end| end > now)
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::Algorithm;
    use proptest::prelude::*;
    use time::Duration;

    use super::*;
    use crate::state::PublicKey;

    const START: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn key(id: &str, digest: &str, expires_in: Option<i64>) -> ServiceKey {
        ServiceKey {
            id: id.to_owned(),
            service: "tasks".to_owned(),
            org_id: None,
            role: "operator".to_owned(),
            digest: digest.to_owned(),
            expires_at: expires_in.map(|seconds| START + Duration::seconds(seconds)),
        }
    }

    fn sso(kid: &str, at: Option<OffsetDateTime>) -> Fetched {
        let public = PublicKey::Ed { x: "AAAA".to_owned() };
        let key = SsoKey { kid: Some(kid.to_owned()), algorithm: Algorithm::EdDSA, public };
        Fetched { keys: vec![key], issuers: vec!["https://sso".to_owned()], at }
    }

    fn all(version: u64, keys: Vec<ServiceKey>) -> Option<KeysSaid> {
        Some(KeysSaid::All { version, keys, at: START })
    }

    #[test]
    fn a_source_that_says_nothing_keeps_its_part_and_its_age() {
        let said =
            Said { keys: all(3, vec![key("a", "1", None)]), sso: Some(sso("k", Some(START))) };
        let first = reconcile(&AuthState::default(), said, START);
        assert!(first.changed && first.state.knows("k") && !first.state.knows("other"));
        let later = START + Duration::HOUR;
        let silent = reconcile(&first.state, Said::default(), later);
        assert_eq!((silent.changed, &silent.state), (false, &first.state));
        let same = Said { keys: Some(KeysSaid::Same(later)), sso: None };
        let confirmed = reconcile(&first.state, same, later);
        assert!(!confirmed.changed);
        assert_eq!(confirmed.state.keys_confirmed_at, Some(later));
        assert_eq!(confirmed.state.sso_fetched_at, Some(START));
    }

    #[test]
    fn a_new_version_is_a_change_even_with_the_same_keys() {
        let first =
            reconcile(&AuthState::default(), Said { keys: all(3, vec![]), sso: None }, START);
        let next = reconcile(&first.state, Said { keys: all(4, vec![]), sso: None }, START);
        assert!(next.changed);
    }

    #[test]
    fn a_configured_key_gives_way_to_a_fetched_one_and_never_comes_back() {
        let configured = Said { keys: None, sso: Some(sso("configured", None)) };
        let first = reconcile(&AuthState::default(), configured.clone(), START).state;
        assert!(first.knows("configured") && first.sso_fetched_at.is_none());
        let fetched = Said { keys: None, sso: Some(sso("fetched", Some(START))) };
        let second = reconcile(&first, fetched, START).state;
        assert!(second.knows("fetched") && !second.knows("configured"));
        assert!(!reconcile(&second, configured, START).changed);
    }

    #[test]
    fn a_key_of_the_settings_that_is_in_the_database_counts_as_that() {
        let state = AuthState { service_keys: vec![key("db", "1", None)], ..AuthState::default() };
        let own = [key("env:a", "1", None), key("env:b", "2", None), key("env:c", "3", Some(5))];
        let (merged, duplicates) = with_settings(state, &own, START + Duration::seconds(5));
        let ids: Vec<_> = merged.service_keys.iter().map(|key| key.id.as_str()).collect();
        assert_eq!(ids, ["db", "env:b"]);
        let duplicate = Duplicate { kept: "db".to_owned(), dropped: "env:a".to_owned() };
        assert_eq!(duplicates, [duplicate]);
    }

    proptest! {
        #[test]
        fn nothing_expired_is_handed_on_and_saying_it_twice_changes_nothing(
            ends in prop::collection::vec(prop::option::of(-5_i64..5), 0..8),
            version in 1_u64..9,
        ) {
            let keys: Vec<_> = (0..).zip(&ends).map(|(number, end): (u32, _)| {
                key(&number.to_string(), &number.to_string(), *end)
            }).collect();
            let said = Said { keys: all(version, keys.clone()), sso: Some(sso("k", Some(START))) };
            let once = reconcile(&AuthState::default(), said.clone(), START);
            prop_assert!(once.changed);
            let live = ends.iter().filter(|end| end.is_none_or(|end| end > 0)).count();
            prop_assert_eq!(once.state.service_keys.len(), live);
            let twice = reconcile(&once.state, said, START);
            prop_assert!(!twice.changed);
            let (merged, _) = with_settings(once.state.clone(), &keys, START);
            prop_assert_eq!(merged, once.state);
        }
    }
}
