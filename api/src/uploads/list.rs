//! Uploads as people and programs see them: above all, which were not applied, and why.

use dispatcher_wire::view::UploadView;

use super::model::Upload;
use crate::{
    events::model::timestamp,
    runs::model::Rows,
    store::{StoreResult, UploadStore},
};

/// A page of an organisation's uploads, newest first.
///
/// # Errors
/// When the database fails.
pub async fn page(
    store: &dyn UploadStore,
    org_id: &str,
    limit: i64,
    offset: i64,
) -> StoreResult<Rows<UploadView>> {
    let Rows { rows, total } = store.list(org_id, limit, offset).await?;
    Ok(Rows { rows: rows.into_iter().map(view).collect(), total })
}

fn view(upload: Upload) -> UploadView {
    UploadView {
        id: upload.id.to_string(),
        org_id: upload.org_id,
        state: upload.state.as_str().to_owned(),
        reason: upload.reason,
        size: upload.size,
        created_at: timestamp(upload.created_at),
    }
}
