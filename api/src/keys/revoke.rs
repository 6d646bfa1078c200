//! Revoking a key: nobody's from the next version of the auth state on.

use dispatcher_wire::admin::RevokedKey;
use serde_json::json;

use super::{KeyError, Keys, create::Asking, list, now};
use crate::audit::model::Action;

impl Keys {
    /// Revokes a key. One that is revoked already stays as it is, which is answered alike.
    ///
    /// # Errors
    /// When there is no such key, it comes from a setting, or the database fails.
    pub async fn revoke(&self, asking: &Asking, id: &str) -> Result<RevokedKey, KeyError> {
        let key = self.visible(&asking.scope, id).await?;
        let at = now();
        let audit = asking.by.did(Action::KeyRevoke, &key.id, key.org_id.as_deref(), at);
        let audit = audit.with(json!({ "service": key.service }));
        let done = self.store.revoke(id, &asking.by.name(), at, Some(&audit)).await?;
        let done = done.ok_or_else(|| KeyError::Unknown(id.to_owned()))?;
        Ok(RevokedKey { key: list::view(done.key, at), auth_version: done.auth_version })
    }
}
