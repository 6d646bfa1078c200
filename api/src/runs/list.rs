//! The list of an organisation's runs (contract §1.10).

use serde_json::Value;

use super::{
    fields::Fields,
    model::{Rows, RunQuery},
};
use crate::store::{RunStore, StoreResult};

/// A page of runs with the selected fields.
///
/// # Errors
/// When the database fails.
pub async fn list(
    store: &dyn RunStore,
    query: &RunQuery,
    fields: &Fields,
) -> StoreResult<Rows<Value>> {
    let Rows { rows, total } = store.list(query).await?;
    let rows = rows.iter().map(|run| fields.write_run(run, query.now)).collect();
    Ok(Rows { rows, total })
}
