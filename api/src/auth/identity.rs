//! The identity header of a trusted gateway (contract §1.2). Pure: whether the peer that sent it
//! may be believed is decided before.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, de::Error as _};
use serde_json::Value;

use super::principal::{Kind, OrgScope, Principal, Role};

/// The longest organisation id that is believed.
const MAX_ORG_ID: usize = 255;

/// Who somebody is, as the gateway says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Identity {
    /// `User`, `ServiceAccount`, `System`, …
    pub kind: String,
    /// The organisation; empty for some kinds.
    pub org_id: String,
    /// The user's or service account's id, where given.
    pub user_id: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Envelope {
    identity: Option<Wire>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Wire {
    #[serde(rename = "type")]
    kind: Option<String>,
    org_id: Option<String>,
    account_number: Option<String>,
    internal: Option<Internal>,
    user: Option<User>,
    service_account: Option<User>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Internal {
    org_id: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct User {
    user_id: Option<String>,
}

/// Refuses lists, which would be taken for the members of an object in their order.
fn objects_only(envelope: &Value) -> Result<(), serde_json::Error> {
    let of = |name: &str| envelope.get("identity").and_then(|identity| identity.get(name));
    let parts = ["internal", "user", "service_account"].map(of);
    let mut parts = [Some(envelope), envelope.get("identity")].into_iter().chain(parts).flatten();
    if parts.all(|part| part.is_null() || part.is_object()) {
        return Ok(());
    }
    Err(serde_json::Error::custom("there is something else where an object belongs"))
}

impl Identity {
    /// Reads the header.
    ///
    /// # Errors
    /// The contract's reason.
    pub fn decode(header: Option<&[u8]>) -> Result<Self, String> {
        let header = header.filter(|value| !value.is_empty());
        let header = header.ok_or("missing x-rh-identity header")?;
        let json = BASE64_STANDARD.decode(header);
        let json = json.map_err(|_| "unable to b64 decode x-rh-identity header")?;
        let envelope = serde_json::from_slice(&json)
            .and_then(|value| objects_only(&value).and_then(|()| Envelope::deserialize(value)))
            .map_err(|error| {
                format!("x-rh-identity header does not contain valid JSON: {error}")
            })?;
        Self::from_wire(envelope.identity.unwrap_or_default())
    }

    fn from_wire(wire: Wire) -> Result<Self, String> {
        let internal = wire.internal.and_then(|internal| internal.org_id);
        let org_id = wire.org_id.filter(|org| !org.is_empty()).or(internal).unwrap_or_default();
        let kind = wire.kind.unwrap_or_default();
        let account = wire.account_number.unwrap_or_default();
        let user = wire.user.or(wire.service_account).and_then(|user| user.user_id);
        let user_id = user.unwrap_or_default();
        let without_org = matches!(kind.as_str(), "Associate" | "X509") && account.is_empty();
        let usable = !org_id.is_empty() && org_id.len() <= MAX_ORG_ID && !org_id.contains('\0');
        if !without_org && !usable {
            return Err("x-rh-identity header has an invalid or missing org_id".to_owned());
        }
        if kind.is_empty() {
            return Err("x-rh-identity header is missing type".to_owned());
        }
        Ok(Self { kind, org_id, user_id })
    }

    /// The principal, if it is of a kind that may use the public routes.
    ///
    /// # Errors
    /// The contract's text for other kinds.
    pub fn into_principal(self) -> Result<Principal, String> {
        let kind = self.kind.to_lowercase();
        if !matches!(kind.as_str(), "user" | "serviceaccount") {
            return Err(format!("unauthorized principal type: {kind}"));
        }
        let org = OrgScope::One(self.org_id);
        Ok(Principal { kind: Kind::Identity, id: self.user_id, org, role: Role::Operator })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(json: &str) -> Result<Identity, String> {
        Identity::decode(Some(BASE64_STANDARD.encode(json).as_bytes()))
    }

    #[test]
    fn reasons_are_those_of_the_contract() {
        assert_eq!(Identity::decode(None).unwrap_err(), "missing x-rh-identity header");
        assert_eq!(Identity::decode(Some(b"")).unwrap_err(), "missing x-rh-identity header");
        let base64 = "unable to b64 decode x-rh-identity header";
        assert_eq!(Identity::decode(Some(b"{}")).unwrap_err(), base64);
        let json = "x-rh-identity header does not contain valid JSON: ";
        assert!(decode("{").unwrap_err().starts_with(json));
        for mistyped in [
            r#"{"identity":{"org_id":5}}"#,
            r#"{"identity":{"org_id":"5","type":1}}"#,
            r#"{"identity":{"org_id":"5","type":"User","account_number":1}}"#,
            r#"{"identity":{"org_id":"5","type":"User","internal":"5"}}"#,
            r#"{"identity":{"type":"User","internal":["5"]}}"#,
            r#"{"identity":{"type":"User","internal":{"org_id":5}}}"#,
            r#"{"identity":{"org_id":"5","type":"User","user":["u"]}}"#,
            r#"{"identity":{"org_id":"5","type":"User","user":{"user_id":7}}}"#,
            r#"{"identity":["User","5"]}"#,
            r#"[{"type":"User","org_id":"5"}]"#,
            r#"{"identity":{"org_id":"5","type":"User"}} {}"#,
            "5",
            " ",
        ] {
            assert!(decode(mistyped).unwrap_err().starts_with(json), "{mistyped}");
        }
        let unpadded = BASE64_STANDARD.encode(r#"{"identity":{"org_id":"5","type":"User"}}"#);
        let unpadded = unpadded.trim_end_matches('=');
        assert!(!unpadded.len().is_multiple_of(4));
        assert_eq!(Identity::decode(Some(unpadded.as_bytes())).unwrap_err(), base64);
        let org = "x-rh-identity header has an invalid or missing org_id";
        for bad in ["{}", r#"{"identity":null}"#, r#"{"identity":{"type":"User"}}"#] {
            assert_eq!(decode(bad).unwrap_err(), org, "{bad}");
        }
        assert_eq!(decode(r#"{"identity":{"org_id":"a\u0000","type":"User"}}"#).unwrap_err(), org);
        let kind = "x-rh-identity header is missing type";
        assert_eq!(decode(r#"{"identity":{"org_id":"5"}}"#).unwrap_err(), kind);
    }

    #[test]
    fn users_and_service_accounts_act_for_their_organisation() {
        let user = r#"{"identity":{"type":"User","internal":{"org_id":"5"},"user":{"user_id":"u"},
                       "unknown":1},"entitlements":{}}"#;
        let principal = decode(user).unwrap().into_principal().unwrap();
        assert_eq!((principal.id.as_str(), principal.may_act_for("5")), ("u", true));
        let account = r#"{"identity":{"type":"ServiceAccount","org_id":"7"}}"#;
        assert!(decode(account).unwrap().into_principal().unwrap().may_act_for("7"));
        for kind in ["user", "USER", "serviceaccount", "SERVICEACCOUNT"] {
            let known = format!(r#"{{"identity":{{"type":"{kind}","org_id":"7"}}}}"#);
            decode(&known).unwrap().into_principal().unwrap();
        }
        // The organisation at the top counts, and the inner one only where that is empty.
        let both = r#"{"identity":{"type":"User","org_id":"7","internal":{"org_id":"8"}}}"#;
        assert_eq!(decode(both).unwrap().org_id, "7");
        let inner = r#"{"identity":{"type":"User","org_id":"","internal":{"org_id":"8"}}}"#;
        assert_eq!(decode(inner).unwrap().org_id, "8");
    }

    #[test]
    fn other_kinds_are_identities_without_access() {
        let associate = decode(r#"{"identity":{"type":"Associate"}}"#).unwrap();
        assert_eq!(associate.org_id, "");
        let refused = associate.into_principal().unwrap_err();
        assert_eq!(refused, "unauthorized principal type: associate");
        let org = "x-rh-identity header has an invalid or missing org_id";
        let without = |kind: &str, account: &str| {
            decode(&format!(r#"{{"identity":{{"type":"{kind}","account_number":"{account}"}}}}"#))
        };
        for kind in ["Associate", "X509"] {
            assert_eq!(without(kind, "").unwrap().org_id, "");
            assert_eq!(without(kind, "1").unwrap_err(), org, "{kind} with an account");
        }
        for kind in ["associate", "x509", "ASSOCIATE", "System", "User"] {
            assert_eq!(without(kind, "").unwrap_err(), org, "{kind}");
        }
        let kind = decode(r#"{"identity":{"type":"X509","org_id":"5"}}"#).unwrap();
        assert_eq!(kind.into_principal().unwrap_err(), "unauthorized principal type: x509");
    }
}
