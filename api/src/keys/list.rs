//! Keys as admins see them: those of the database, and before them those of the settings.

use dispatcher_wire::admin::KeyView;
use time::OffsetDateTime;

use super::{
    KeyError, Keys,
    model::{FROM_SETTINGS, KeyQuery, ServiceKey},
};
use crate::{
    auth::principal::{OrgScope, Role},
    events::model::timestamp,
    runs::model::Rows,
};

impl Keys {
    /// A page of keys. Those of the settings act for every organisation, so that only who does, too,
    /// sees them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list(&self, query: &KeyQuery) -> Result<Rows<KeyView>, KeyError> {
        let wanted = |service: &&String| {
            query.scope == OrgScope::All
                && query.service.as_ref().is_none_or(|wanted| wanted == *service)
        };
        let fixed: Vec<KeyView> =
            self.in_settings.iter().filter(wanted).map(|name| of_settings(name)).collect();
        let before = i64::try_from(fixed.len()).unwrap_or(i64::MAX);
        let skipped = query.offset.min(before);
        let shown = fixed.into_iter().skip(usize::try_from(skipped).unwrap_or(usize::MAX));
        let mut rows: Vec<KeyView> =
            shown.take(usize::try_from(query.limit).unwrap_or_default()).collect();
        let left = query.limit - i64::try_from(rows.len()).unwrap_or(i64::MAX);
        let rest = KeyQuery { limit: left, offset: query.offset - skipped, ..query.clone() };
        let found = self.store.list(&rest).await?;
        let now = OffsetDateTime::now_utc();
        rows.extend(found.rows.into_iter().map(|key| view(key, now)));
        Ok(Rows { rows, total: found.total + before })
    }
}

/// A key as it is answered.
pub(super) fn view(key: ServiceKey, now: OffsetDateTime) -> KeyView {
    let state = match (key.revoked_at, key.is_live_at(now)) {
        (Some(_), _) => "revoked",
        (None, true) => "live",
        (None, false) => "expired",
    };
    KeyView {
        id: key.id,
        service: key.service,
        org_id: key.org_id,
        role: key.role.as_str().to_owned(),
        source: "database".to_owned(),
        state: state.to_owned(),
        created_at: Some(timestamp(key.created_at)),
        created_by: Some(key.created_by),
        expires_at: key.expires_at.map(timestamp),
        revoked_at: key.revoked_at.map(timestamp),
        revoked_by: key.revoked_by,
    }
}

fn of_settings(service: &str) -> KeyView {
    KeyView {
        id: format!("{FROM_SETTINGS}{service}"),
        service: service.to_owned(),
        org_id: None,
        role: Role::Operator.as_str().to_owned(),
        source: "settings".to_owned(),
        state: "live".to_owned(),
        created_at: None,
        created_by: None,
        expires_at: None,
        revoked_at: None,
        revoked_by: None,
    }
}
