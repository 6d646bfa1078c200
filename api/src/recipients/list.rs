//! The recipients of an organisation, as people and programs see them.

use std::collections::BTreeMap;

use dispatcher_wire::view::{RecipientDetailView, RecipientView};
use time::OffsetDateTime;

use super::model::{RecipientDetail, RecipientSummary};
use crate::{
    events::model::timestamp,
    runs::model::Rows,
    store::{RecipientStore, StoreResult},
};

/// A page of recipients, by name.
///
/// # Errors
/// When the database fails.
pub async fn list(
    store: &dyn RecipientStore,
    org_id: &str,
    labels: &BTreeMap<String, String>,
    limit: i64,
    offset: i64,
    now: OffsetDateTime,
) -> StoreResult<Rows<RecipientView>> {
    let Rows { rows, total } = store.list(org_id, labels, limit, offset).await?;
    Ok(Rows { rows: rows.into_iter().map(|summary| view(summary, now)).collect(), total })
}

/// One recipient with everything that is known of it.
#[must_use]
pub fn detail(found: RecipientDetail, now: OffsetDateTime) -> RecipientDetailView {
    let RecipientDetail { summary, facts, facts_at } = found;
    let created_at = timestamp(summary.recipient.created_at);
    let facts_at = facts_at.map(timestamp);
    RecipientDetailView { recipient: view(summary, now), created_at, facts, facts_at }
}

fn view(summary: RecipientSummary, now: OffsetDateTime) -> RecipientView {
    let RecipientSummary { recipient, active_runs, labels, version, paused } = summary;
    RecipientView {
        id: recipient.id,
        connected: recipient.is_present(now),
        last_seen: recipient.last_seen.map(timestamp),
        org_id: recipient.org_id,
        name: recipient.name,
        active_runs,
        labels,
        version,
        paused,
    }
}
