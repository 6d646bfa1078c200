//! The recipients of an organisation, as people and programs see them.

use dispatcher_wire::view::RecipientView;
use time::OffsetDateTime;

use super::model::RecipientSummary;
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
    limit: i64,
    offset: i64,
    now: OffsetDateTime,
) -> StoreResult<Rows<RecipientView>> {
    let Rows { rows, total } = store.list(org_id, limit, offset).await?;
    Ok(Rows { rows: rows.into_iter().map(|summary| view(summary, now)).collect(), total })
}

fn view(summary: RecipientSummary, now: OffsetDateTime) -> RecipientView {
    let RecipientSummary { recipient, active_runs } = summary;
    RecipientView {
        id: recipient.id,
        connected: recipient.is_present(now),
        last_seen: recipient.last_seen.map(timestamp),
        org_id: recipient.org_id,
        name: recipient.name,
        active_runs,
    }
}
