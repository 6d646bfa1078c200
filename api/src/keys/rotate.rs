//! Replacing a key: a successor for the same service, organisation and role, and an end for the old.

use dispatcher_wire::admin::{MadeKey, Rotation};
use secrecy::ExposeSecret as _;
use serde_json::json;
use time::Duration;

use super::{
    KeyError, Keys,
    create::{Asking, chosen_id, end_of},
    list,
    model::{Replaced, ServiceKey},
    now,
};
use crate::audit::model::Action;

/// How long the old key goes on where nothing else is said, in seconds.
const OVERLAP: u64 = 24 * 60 * 60;
/// The longest that it may, in seconds.
const MAX_OVERLAP: u64 = 90 * OVERLAP;

impl Keys {
    /// Replaces a key; both are live for the overlap, unless the old one ends earlier by itself.
    ///
    /// # Errors
    /// When there is no such live key, the service has two already, or the database fails. Nothing
    /// was changed then.
    pub async fn rotate(
        &self,
        asking: &Asking,
        id: &str,
        rotation: &Rotation,
    ) -> Result<MadeKey, KeyError> {
        let old = self.visible(&asking.scope, id).await?;
        let at = now();
        let overlap = overlap_of(rotation.overlap_seconds)?;
        let new = ServiceKey {
            id: chosen_id(rotation.id.as_deref())?,
            service: old.service.clone(),
            org_id: old.org_id.clone(),
            role: old.role,
            created_at: at,
            created_by: asking.by.name(),
            expires_at: end_of(rotation.expires_at.as_deref(), at)?,
            revoked_at: None,
            revoked_by: None,
        };
        let replaced = Replaced { id: old.id.clone(), ends_at: at + overlap };
        let audit = asking.by.did(Action::KeyRotate, &old.id, old.org_id.as_deref(), at);
        let audit = audit.with(json!({
            "service": old.service, "successor": new.id, "overlap_seconds": overlap.whole_seconds(),
        }));
        let (secret, auth_version) = self.make(&new, Some(&replaced), &audit).await?;
        let ends_at = old.expires_at.map_or(replaced.ends_at, |end| end.min(replaced.ends_at));
        Ok(MadeKey {
            secret: secret.expose_secret().to_owned(),
            key: list::view(new, at),
            replaces: Some(list::view(ServiceKey { expires_at: Some(ends_at), ..old }, at)),
            auth_version,
        })
    }
}

fn overlap_of(seconds: Option<u64>) -> Result<Duration, KeyError> {
    let seconds = seconds.unwrap_or(OVERLAP);
    let within = i64::try_from(seconds).ok().filter(|_| seconds <= MAX_OVERLAP);
    within.map(Duration::seconds).ok_or_else(|| {
        KeyError::Invalid(format!("overlap_seconds is {seconds}; allowed: 0 to {MAX_OVERLAP}"))
    })
}
