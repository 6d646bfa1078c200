//! Stored playbooks as people and programs see them.

use dispatcher_wire::view::PlaybookView;

use super::{address::Content, model::StoredPlaybook};
use crate::{
    events::model::timestamp,
    keyring::hex,
    runs::model::Rows,
    store::{PlaybookStore, StoreResult},
};

/// One playbook by its name.
///
/// # Errors
/// When the database fails.
pub async fn one(
    store: &dyn PlaybookStore,
    public_url: &str,
    org_id: &str,
    name: &str,
) -> StoreResult<Option<PlaybookView>> {
    Ok(store.get(org_id, name).await?.map(|playbook| view(public_url, playbook)))
}

/// A page of playbooks, by name.
///
/// # Errors
/// When the database fails.
pub async fn page(
    store: &dyn PlaybookStore,
    public_url: &str,
    org_id: &str,
    (limit, offset): (i64, i64),
) -> StoreResult<Rows<PlaybookView>> {
    let Rows { rows, total } = store.list(org_id, limit, offset).await?;
    Ok(Rows { rows: rows.into_iter().map(|playbook| view(public_url, playbook)).collect(), total })
}

/// A playbook with the address it is dispatched by.
#[must_use]
pub fn view(public_url: &str, playbook: StoredPlaybook) -> PlaybookView {
    let content = Content { org_id: playbook.org_id, sha256: playbook.sha256 };
    PlaybookView {
        name: playbook.name,
        sha256: hex(&playbook.sha256),
        size: playbook.size,
        entry: playbook.entry,
        url: content.address(public_url),
        updated_at: timestamp(playbook.updated_at),
    }
}
